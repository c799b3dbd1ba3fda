"""What a mutant is: an edit of one place in a generated project."""

from dataclasses import dataclass
from typing import NamedTuple

from project import Variant

ENGINE = "tests/engine/test_"


class Where(NamedTuple):
    """The project that is run, and the database its tests use."""

    variant: Variant
    database: str

    def __str__(self) -> str:
        return f"{self.variant} on {self.database}"


@dataclass(frozen=True)
class Mutant:
    """A defect: in `file`, the one occurrence of `old` becomes `new`.

    Args:
        name: What is wrong then.
        tests: The file of the project's tests that has to notice. Others may, too.
    """

    name: str
    file: str
    old: str
    new: str
    tests: str
    provider: str = "stripe"
    processing: str = "background"
    database: str = "sqlite"

    @property
    def where(self) -> Where:
        return Where(Variant(self.provider, self.processing), self.database)

    def __str__(self) -> str:
        return f"{self.where}: {self.name}"

    def mutate(self, text: str) -> str:
        """Return the text of the file with the defect."""
        times = text.count(self.old)
        assert times == 1, f"{self.file} has this {times} times, not once:\n{self.old}"
        return text.replace(self.old, self.new)
