"""How long it takes from a restart until everything is handled, after a SIGKILL."""

import time

from benchmarks import stored
from benchmarks.options import Options
from benchmarks.receive import ours
from benchmarks.results import Results, Sample
from benchmarks.workbench import Missing, Workbench, take_cores, workbenches

CONCURRENCY = 16  # attempts under way in a killed process: as app/config.py has it


def run(options: Options) -> Results:
    results = Results("recovery")
    with workbenches(["background"], take_cores()) as benches:
        [bench] = benches.values()
        for number in range(1, options.rounds + 1):
            for database in options.databases:
                subject = ours(database)
                try:
                    values = _measure(bench, database, options.events)
                except Missing as missing:
                    results.leave_out(subject, missing)
                    continue
                results.add(Sample(subject, f"{options.events:,} at the start", number, values))
    results.notes.append(
        "all but leased: all events no attempt at which was under way when the process was killed;"
        " those attempts' leases have to run out first (65 s as generated)"
    )
    return results


def _measure(bench: Workbench, kind: str, events: int) -> dict[str, float]:
    with bench.database(kind) as database:
        stored.create_schema(bench, database)
        stored.insert(database, events, pending=True)
        with bench.service(database) as server:
            while not database.count("state = 'done'"):
                server.check()
                time.sleep(0.01)
            server.kill()
        unfinished = stored.pending(database)
        begun = time.monotonic()
        with bench.service(database):
            up = time.monotonic() - begun
            stored.wait_until_handled(database, at_most=CONCURRENCY)
            most = time.monotonic() - begun
            stored.wait_until_handled(database)
            whole = time.monotonic() - begun
        assert database.count("state = 'done'") == events
        figures = {"serving s": up, "all but leased s": most, "empty s": whole}
        return {"unfinished": unfinished} | figures
