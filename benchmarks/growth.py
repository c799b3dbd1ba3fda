"""What a service costs that has kept many events: time, memory and disk."""

import json
import time
from contextlib import ExitStack

from benchmarks import stored
from benchmarks.load import send_all, send_for
from benchmarks.options import Options
from benchmarks.results import Aim, Results, Sample
from benchmarks.workbench import Missing, Workbench, take_cores, workbenches

FEW = 1_000


def run(options: Options) -> Results:
    results = Results("growth")
    with workbenches(["background"], take_cores()) as benches:
        [bench] = benches.values()
        for kind in options.databases:
            subjects = [f"{kind}, {number:,} stored" for number in options.stored]
            results.aims.append(Aim("requests/s", subjects[-1], subjects[0], 0.9))
            few, many = (f"{kind}, {number:,} received" for number in (FEW, options.events))
            results.aims.append(Aim("resident MB", many, few, 1.2, at_least=False))
            for number in range(1, options.rounds + 1):
                try:
                    for events, subject in zip(options.stored, subjects, strict=True):
                        values = _time(bench, kind, events, options.seconds)
                        results.add(Sample(subject, "", number, values))
                    grown = _memory(bench, kind, options.events)
                    for subject, megabytes in zip((few, many), grown, strict=True):
                        results.add(Sample(subject, "", number, {"resident MB": megabytes}))
                except Missing as missing:
                    results.leave_out(kind, missing)
    results.notes += [
        "stored events have bodies of 1.2 KB; bytes an event: the table, its indexes and the rest",
        "events, replay: the commands `python -m app events` and `python -m app replay ID`",
        "resident MB: of the web process, its backlog worked off",
    ]
    return results


def _time(bench: Workbench, kind: str, events: int, seconds: float) -> dict[str, float]:
    with bench.database(kind) as database:
        environment = bench.environment(database.url)
        stored.create_schema(bench, database)
        values: dict[str, float] = {}
        if events:
            empty = stored.bytes_used(database)
            stored.insert(database, events, pending=False)
            values["bytes an event"] = (stored.bytes_used(database) - empty) / events
        values |= json.loads(bench.inside("steps.py", "200", environment))
        [(event_id,)] = database.rows(
            f"SELECT event_id FROM inbox ORDER BY id LIMIT 1 OFFSET {events // 2}"  # noqa: S608
        )
        app = f"{bench.python} -m app"
        for name, command in (("events s", "events"), ("replay s", f"replay {event_id}")):
            begun = time.monotonic()
            bench.run(f"{app} {command}", environment)
            values[name] = time.monotonic() - begun
        with bench.service(database) as server:
            send_for(server, 1)
            return send_for(server, seconds).values | values


def _memory(bench: Workbench, kind: str, events: int) -> list[float]:
    with ExitStack() as stack:
        database = stack.enter_context(bench.database(kind))
        server = stack.enter_context(bench.service(database))
        megabytes = []
        for number in (FEW, max(events - FEW, 0)):
            while number:
                some = min(number, 50_000)  # their signatures are good for 300 seconds
                send_all(server, some)
                number -= some
            stored.wait_until_handled(database)
            megabytes.append(server.resident_megabytes)
    return megabytes
