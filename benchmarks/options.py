"""What the command line says."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """How much is measured, and of what.

    Args:
        only: Parts of names: only the set-ups that one of them is in are measured.
    """

    rounds: int
    events: int
    kills: int
    stored: int
    databases: list[str]
    only: list[str]

    def wants(self, name: str) -> bool:
        return not self.only or any(part.lower() in name.lower() for part in self.only)
