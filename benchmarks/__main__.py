"""The command line: `python -m benchmarks --help`."""

import argparse
import json
import os
import platform
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks import backlog, generation, growth, pipeline, profile, receive, recovery
from benchmarks.load import require_wrk
from benchmarks.options import Options

COMMANDS = {
    "receive": receive.run,
    "pipeline": pipeline.run,
    "backlog": backlog.run,
    "growth": growth.run,
    "recovery": recovery.run,
    "generation": generation.run,
    "profile": profile.run,
}
EVENTS = {"growth": 100_000}
WITHOUT_LOAD = {"generation", "recovery"}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("figure", choices=COMMANDS)
    parser.add_argument("--rounds", type=int, help="how often (5; growth and recovery: 1)")
    parser.add_argument("--seconds", type=float, default=5, help="of load (5)")
    parser.add_argument("--events", type=int, help="how many (10,000; memory in growth: 100,000)")
    parser.add_argument("--stored", type=int, nargs="+", default=[0, 100_000, 1_000_000])
    databases = ["SQLite", "PostgreSQL"]
    parser.add_argument("--databases", nargs="+", choices=databases, default=databases)
    processings = ["background", "celery", "arq"]
    parser.add_argument("--processing", nargs="+", choices=processings, default=processings)
    parser.add_argument("--full", action="store_true", help="all connections, sizes, tests")
    parser.add_argument("--json", type=Path, help="add the results to this file, for chart.py")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # and with it all it started
    if given.figure not in WITHOUT_LOAD:
        require_wrk()
    options = Options(
        rounds=given.rounds or (1 if given.figure in {"growth", "recovery"} else 5),
        seconds=given.seconds,
        events=given.events or EVENTS.get(given.figure, 10_000),
        stored=given.stored,
        databases=given.databases,
        processings=given.processing,
        full=given.full,
    )
    results = COMMANDS[given.figure](options)
    print(f"\n{results.markdown()}")
    if given.json:
        known = json.loads(given.json.read_text()) if given.json.exists() else {}
        machine = (
            f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}"
        )
        known[given.figure] = {"machine": machine, **asdict(results)}
        given.json.write_text(json.dumps(known, indent=1))


if __name__ == "__main__":
    main()
