"""One core serves, the other one sends and measures."""

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from live.processes import Process

TICKS = os.sysconf("SC_CLK_TCK")


class Cores(NamedTuple):
    """Which core all processes of a service share, and which one sends and runs brokers."""

    service: int
    load: int


@cache
def take_cores() -> Cores:
    """Keep this process, and what it starts, off the core of the service."""
    available = sorted(os.sched_getaffinity(0))
    if len(available) < 2:
        raise SystemExit("two cores are needed: one to serve, one to send")
    cores = Cores(*available[:2])
    os.sched_setaffinity(0, {cores.load})
    return cores


class Pinned(Process):
    """A long-running command on one core, with all the processes it starts."""

    def __init__(
        self, folder: Path, core: int, command: str, environment: Mapping[str, str]
    ) -> None:
        super().__init__(folder, f"taskset --cpu-list {core} {command}", environment)
        self.pid = self._process.pid

    def cpu_seconds(self) -> float:
        """Return the processor time that it used, with all the processes it started."""
        ticks = [_ticks_of(pid) for pid in self._pids()]
        return sum(ticks) / TICKS

    def _pids(self) -> list[int]:
        pids = [self.pid]
        for pid in pids:  # grows in this loop
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                pids += [int(child) for child in children.read_text().split()]
        return pids


def _ticks_of(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system = fields[11:13]  # proc_pid_stat(5)
    return int(user) + int(system)
