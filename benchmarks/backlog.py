"""How long an answer takes while the service works off what has piled up."""

from benchmarks import stored
from benchmarks.load import send_for
from benchmarks.options import Options
from benchmarks.receive import ours
from benchmarks.results import Aim, Results, Sample
from benchmarks.workbench import Missing, Workbench, take_cores, workbenches


def run(options: Options) -> Results:
    results = Results("backlog")
    with_it = f"a backlog of {options.events:,}"
    with workbenches(["background"], take_cores()) as benches:
        [bench] = benches.values()
        for database in options.databases:
            of, to = (f"{ours(database)}, {each}" for each in (with_it, "no backlog"))
            results.aims.append(Aim("p99 ms", of, to, 2, at_least=False))
        for number in range(1, options.rounds + 1):
            for database in options.databases:
                for events, label in ((options.events, with_it), (0, "no backlog")):
                    subject = f"{ours(database)}, {label}"
                    try:
                        values = _measure(bench, database, events, options.seconds)
                    except Missing as missing:
                        results.leave_out(subject, missing)
                        continue
                    results.add(Sample(subject, "32 connections, 1 KB", number, values))
    results.notes.append("worked off/s: events handled in that time, old or new")
    return results


def _measure(bench: Workbench, kind: str, events: int, seconds: float) -> dict[str, float]:
    with bench.database(kind) as database:
        stored.create_schema(bench, database)
        if events:
            stored.insert(database, events, pending=True)
        with bench.service(database) as server:
            load = send_for(server, seconds)
            done = database.count("state = 'done'")
            left = stored.pending(database)
        return load.values | {"worked off/s": done / load.seconds, "left": left}
