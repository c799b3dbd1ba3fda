"""Received, handled, done: events per second, from the first request to an inbox with no work."""

import http.client
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from uuid import uuid4

from live import wait_for

from benchmarks import stored
from benchmarks.load import send_all, send_one
from benchmarks.options import Options
from benchmarks.results import Aim, Results, Sample
from benchmarks.workbench import HERE, Missing, Pinned, Workbench, take_cores, workbenches

SNIPPET = "snippet, forgets everything"
BROKERS = {"celery": ["Redis", "RabbitMQ"], "arq": ["Redis"]}
WORKER = {"celery": "celery -A noop_celery:celery worker", "arq": "arq noop_arq.WorkerSettings"}


def run(options: Options) -> Results:
    results = Results("pipeline")
    setting = f"{options.events:,} events"
    with workbenches(options.processings, take_cores()) as benches:
        for number in range(1, options.rounds + 1):
            for processing, bench in benches.items():
                for subject, measure in _subjects(options, bench, results):
                    try:
                        seconds = measure()
                    except Missing as missing:
                        results.leave_out(subject, missing)
                        continue
                    values = {"events/s": options.events / seconds}
                    results.add(Sample(f"{processing}: {subject}", setting, number, values))
    results.notes.append("of a queue alone: messages from the first publish to the last no-op")
    return results


def _subjects(
    options: Options, bench: Workbench, results: Results
) -> list[tuple[str, Callable[[], float]]]:
    found: list[tuple[str, Callable[[], float]]] = []

    def compare(of: str, to: str, bound: float) -> None:
        aim = Aim("events/s", f"{bench.processing}: {of}", f"{bench.processing}: {to}", bound)
        if aim not in results.aims:
            results.aims.append(aim)

    if bench.processing == "background":
        for kind in options.databases:
            found.append((kind, partial(_service, bench, kind, "", options.events)))
            compare(kind, SNIPPET, 0.8)
        found.append((SNIPPET, partial(_snippet, bench, options.events)))
        return found
    for broker in BROKERS[bench.processing]:
        whole, alone = f"PostgreSQL, {broker}", f"the queue alone, {broker}"
        found += [
            (whole, partial(_service, bench, "PostgreSQL", broker, options.events)),
            (alone, partial(_queue_alone, bench, broker, options.events)),
        ]
        compare(whole, alone, 0.5)
    return found


def _service(bench: Workbench, kind: str, broker: str, number: int) -> float:
    with ExitStack() as stack:
        database = stack.enter_context(bench.database(kind))
        url = stack.enter_context(bench.broker(broker))
        server = stack.enter_context(bench.service(database, url))
        worker = stack.enter_context(bench.worker(database, url))
        assert send_one(server) == 200
        stored.wait_until_handled(database)  # it is warm, and so is the worker
        begun = time.monotonic()
        send_all(server, number)
        stored.wait_until_handled(database)
        seconds = time.monotonic() - begun
        if worker:
            worker.check()
        assert database.count("state = 'done'") == number + 1
    return seconds


def _snippet(bench: Workbench, number: int) -> float:
    with bench.baseline("snippet") as server:
        send_one(server)
        begun = time.monotonic()
        send_all(server, number)
        wait_for(lambda: _handled(server) == number + 1, "the snippet to handle all")
        return time.monotonic() - begun


def _handled(server: Pinned) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", "/handled")
    handled = int(connection.getresponse().read())
    connection.close()
    return handled


def _queue_alone(bench: Workbench, broker: str, number: int) -> float:
    """Publish that many messages, on the core that serves, to a worker on the other."""
    counted = bench.folder / uuid4().hex
    with bench.broker(broker) as url:
        path = f"{bench.project.path}:{HERE / 'inside'}"
        extra = {"PYTHONPATH": path, "COUNTED": str(counted), "NUMBER": str(number)}
        environment = bench.environment("sqlite:///unused.db", url, **extra)
        script = f"noop_{bench.processing}.py"
        command = f"{bench.python} -m {WORKER[bench.processing]}"
        with Pinned(bench.project.path, bench.cores.load, command, environment) as worker:
            bench.inside(script, "1", environment)
            _wait_for_lines(counted, 1, worker)
            # Importing the project is no part of it.
            begun = time.monotonic() + _seconds_to_import(bench, script, environment)
            bench.inside(script, str(number), environment)
            _wait_for_lines(counted, 2, worker)
            return time.monotonic() - begun


def _seconds_to_import(bench: Workbench, script: str, environment: dict[str, str]) -> float:
    begun = time.monotonic()
    bench.inside(script, "0", environment)
    return time.monotonic() - begun


def _wait_for_lines(file: Path, number: int, worker: Pinned) -> None:
    while not file.exists() or file.read_text().count("\n") < number:
        worker.check()
        time.sleep(0.02)
