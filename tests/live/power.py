"""What a power failure leaves of SQLite's files: what was written before an fsync that has ended.

`strace` records each write of a process, byte for byte, and each fsync. From these, the files are
rebuilt as they were on the disk at any moment, without what was only in the system's memory.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

TRACE = "strace -f --seccomp-bpf -ttt -y -xx -s 1000000 -e trace=pwrite64,ftruncate,fsync,fdatasync"

BEGUN = re.compile(
    r"(?P<pid>\d+) +(?P<time>[\d.]+) (?P<call>\w+)\(\d+<(?P<path>[^>]*)>"
    r'(?:, "(?P<data>[^"]*)")?(?P<numbers>[\d, ]*)(?P<rest>.*)'
)
ENDED = re.compile(r"(?P<pid>\d+) +(?P<time>[\d.]+) <\.\.\. (?P<call>\w+) resumed>(?P<rest>.*)")
SYNCS = ("fsync", "fdatasync")


@dataclass(frozen=True)
class Write:
    """A change of a file: data at an offset, or its length."""

    offset: int
    data: bytes | None

    def apply(self, content: bytearray) -> None:
        if self.data is None:
            del content[self.offset :]
        content.extend(bytes(max(0, self.offset - len(content))))
        if self.data is not None:
            content[self.offset : self.offset + len(self.data)] = self.data


@dataclass
class File:
    """A file as it is on the disk, and the writes that are not there yet."""

    on_disk: bytearray = field(default_factory=bytearray)
    written: list[Write] = field(default_factory=list)
    syncing: dict[str, list[Write]] = field(default_factory=dict)

    def begin_sync(self, pid: str) -> None:
        self.syncing[pid] = self.written
        self.written = []

    def end_sync(self, pid: str) -> None:
        for write in self.syncing.pop(pid):
            write.apply(self.on_disk)


def disks_at(log: Path, database: Path, moments: Sequence[float]) -> Iterator[dict[str, bytes]]:
    """Yield, for each moment, the database and its write-ahead log as they are on the disk.

    Args:
        moments: Seconds since the epoch, in order.
    """
    files = {str(database): File(), f"{database}-wal": File()}
    syncing: dict[str, File] = {}
    waiting = list(moments)
    with log.open(encoding="ascii", errors="replace") as lines:
        for line in lines:
            match = BEGUN.match(line) or ENDED.match(line)
            if match is None:
                continue
            pid, call, rest = match["pid"], match["call"], match["rest"]
            while waiting and float(match["time"]) > waiting[0]:
                waiting.pop(0)
                yield {Path(name).name: bytes(file.on_disk) for name, file in files.items()}
            if match.re is BEGUN:
                file = files.get(_bytes(match["path"]).decode(), File())  # others do not matter
                if call in SYNCS:
                    file.begin_sync(pid)
                    syncing[pid] = file
                else:
                    *_, offset = match["numbers"].replace(",", " ").split()
                    data = _bytes(match["data"]) if match["data"] is not None else None
                    file.written.append(Write(int(offset), data))
            if call in SYNCS and rest.endswith("= 0"):
                syncing.pop(pid).end_sync(pid)


def _bytes(escaped: str) -> bytes:
    return bytes.fromhex(escaped.replace("\\x", ""))
