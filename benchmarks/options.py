"""What the command line says."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    rounds: int
    seconds: float
    events: int
    stored: list[int]
    databases: list[str]
    processings: list[str]
    full: bool
