"""The command line: `python -m benchmarks --help`."""

import argparse
import json
import os
import platform
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from benchmarks import acks, effects, generation, growth, kills, plainness, receive, tricks
from benchmarks.options import Options
from benchmarks.results import Results
from benchmarks.setups import POSTGRESQL, SQLITE

FIGURES: dict[str, Callable[[Options], Results]] = {
    "effects": effects.run,
    "kills": kills.run,
    "acks": acks.run,
    "receive": receive.run,
    "growth": growth.run,
    "tricks": tricks.run,
    "generation": generation.run,
    "plainness": plainness.run,
}
DATABASES = [SQLITE, POSTGRESQL]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("figures", nargs="+", choices=[*FIGURES, "all"])
    parser.add_argument("--rounds", type=int, default=3, help="of each measurement (3)")
    parser.add_argument("--events", type=int, default=6_000, help="of each measurement (6,000)")
    parser.add_argument("--kills", type=int, default=10, help="of each process (10)")
    parser.add_argument("--stored", type=int, default=500_000, help="events in growth (500,000)")
    parser.add_argument("--databases", nargs="+", choices=DATABASES, default=DATABASES)
    parser.add_argument("--only", nargs="+", default=[], help="set-ups with this in their name")
    parser.add_argument("--quick", action="store_true", help="see only that everything works")
    parser.add_argument("--json", type=Path, help="add the results to this file")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # and with it all it started
    options = Options(
        rounds=1 if given.quick else given.rounds,
        events=300 if given.quick else given.events,
        kills=1 if given.quick else given.kills,
        stored=10_000 if given.quick else given.stored,
        databases=given.databases,
        only=given.only,
    )
    for figure in FIGURES if "all" in given.figures else given.figures:
        results = FIGURES[figure](options)
        print(f"\n{results.markdown()}\n")
        if given.json:
            _save(results, given.json)


def _save(results: Results, file: Path) -> None:
    known = json.loads(file.read_text()) if file.exists() else {}
    machine = f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    known[results.figure] = {"machine": machine, **asdict(results)}
    file.write_text(json.dumps(known, indent=1))


if __name__ == "__main__":
    main()
