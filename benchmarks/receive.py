"""Requests per second, and how long an answer takes."""

from benchmarks.load import STRIPE_PATH, Load, send_for
from benchmarks.options import Options
from benchmarks.results import Aim, Results, Sample
from benchmarks.workbench import DJSTRIPE_PATH, Missing, Workbench, take_cores, workbenches

STORE_NOTHING = {
    "snippet": "snippet (HMAC by hand, set, BackgroundTasks)",
    "construct_event": "snippet (stripe's construct_event)",
    "body": "FastAPI reading the body",
    "bare": "bare ASGI with an HMAC",
}
STORE = {"transaction": "a transaction a request", "djstripe_site": "dj-stripe, gunicorn"}
SIZES = {1200: "1 KB", 10_000: "10 KB", 100_000: "100 KB"}
CONNECTIONS = (32, 8, 128)


HANDLING = "handling"
WAITS = 50  # seconds: a handler that waits leaves the processor to receiving


def ours(database: str) -> str:
    return f"this template, {database}"


def run(options: Options) -> Results:
    results = Results("receive", aims=aims(options))
    settings = [(32, 1200)]
    if options.full:
        settings = [(connections, size) for size in SIZES for connections in CONNECTIONS]
    with workbenches(options.processings[:1], take_cores()) as benches:
        [bench] = benches.values()
        for connections, size in settings:
            setting = f"{connections} connections, {SIZES[size]}"
            for number in range(1, options.rounds + 1):
                for name, database, subject in _subjects(options):
                    try:
                        load = _measure(bench, name, database, options.seconds, size, connections)
                        results.add(Sample(subject, setting, number, load.values))
                    except Missing as missing:
                        results.leave_out(subject, missing)
    return results


def _subjects(options: Options) -> list[tuple[str, str, str]]:
    stored = [
        row
        for database in options.databases
        for row in (
            ("", database, ours(database)),
            (HANDLING, database, f"{ours(database)}, handling meanwhile"),
            *((name, database, f"{label}, {database}") for name, label in STORE.items()),
        )
    ]
    return stored + [(name, "", label) for name, label in STORE_NOTHING.items()]


def _measure(
    bench: Workbench, name: str, kind: str, seconds: float, size: int, connections: int
) -> Load:
    path = DJSTRIPE_PATH if name == "djstripe_site" else STRIPE_PATH
    if not kind:
        faster = 4 if name in {"bare", "body"} else 1
        with bench.baseline(name) as server:
            send_for(server, 1, size, connections, path, faster)  # to warm up
            return send_for(server, seconds, size, connections, path, faster)
    broker = {"celery": "Redis", "arq": "Redis"}.get(bench.processing, "")
    if name in STORE:
        broker = ""
    with bench.database(kind) as database, bench.broker(broker) as url:
        if name in STORE:
            service = bench.baseline(name, database)
        else:
            service = bench.service(database, url, 0 if name == HANDLING else WAITS)
        with service as server:
            send_for(server, 1, size, connections, path)
            load = send_for(server, seconds, size, connections, path)
        if name not in STORE:
            kept = database.count("true")
            assert kept >= load.requests, f"{load.requests} acknowledged, {kept} kept"
        return load


def aims(options: Options) -> list[Aim]:
    found = []
    bounds = {"SQLite": 1.2, "PostgreSQL": 1.0}
    rate, p99 = "requests/s", "p99 ms"
    for database in options.databases:
        it = ours(database)
        found += [
            Aim(rate, it, STORE_NOTHING["snippet"], bounds[database]),
            Aim(rate, it, STORE_NOTHING["construct_event"], 2),
            Aim(rate, it, f"{STORE['transaction']}, {database}", 4),
            Aim(rate, it, f"{STORE['djstripe_site']}, {database}", 8),
            Aim(p99, it, STORE_NOTHING["snippet"], 1.5, False, "32 connections, 1 KB"),
        ]
    return found
