"""The options of the command line."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """How much is measured, and of what.

    Args:
        only: Measure only the set-ups that have one of these in their names. Empty: all.
    """

    rounds: int
    events: int
    kills: int
    stored: int
    databases: list[str]
    only: list[str]

    def wants(self, name: str) -> bool:
        return not self.only or any(part.lower() in name.lower() for part in self.only)
