"""Events per second, from the first request to the last effect that is committed."""

from contextlib import suppress
from functools import partial

from benchmarks.cores import take_cores
from benchmarks.homes import Homes, homes
from benchmarks.load import percentile_99
from benchmarks.options import Options
from benchmarks.results import Missing, Results
from benchmarks.running import running
from benchmarks.setups import (
    ARQ,
    CELERY,
    CELERY_RABBITMQ,
    PEERS,
    TEMPLATE,
    TEMPLATES,
    WEB_SHOWN,
    Setup,
)

RATE = "effects/s"
WARM_UP = 100  # events that are sent before
MOST_SECONDS = 15  # by the pace of the warm-up: slow set-ups are given fewer events

# The template with a queue, and that queue by itself with the same effect.
QUEUES = dict(zip(TEMPLATES[1:], (CELERY, CELERY_RABBITMQ, ARQ), strict=True))


def run(options: Options) -> Results:
    results = Results("effects")
    subjects = chosen(options, (*TEMPLATES, *PEERS))
    with homes(take_cores()) as places:
        for number in range(1, options.rounds + 1):
            for setup, kind in subjects:
                take = partial(measure, places, setup, kind, options.events)
                results.measure(named(setup, kind), number, take)
        add_versions(results, places, subjects)
    _compare(results, subjects)
    results.note(
        "CPU µs: processor time of all processes of the service, for each event. They share one"
        " core; the load and a Redis are on the other, and PostgreSQL and RabbitMQ are where the"
        " system has them"
    )
    return results


def chosen(options: Options, setups: tuple[Setup, ...]) -> list[tuple[Setup, str]]:
    """Return the set-ups that are wanted, each with the databases that it is measured on."""
    return [
        (setup, kind)
        for kind in options.databases
        for setup in setups
        if kind in setup.databases and options.wants(named(setup, kind))
    ]


def named(setup: Setup, kind: str) -> str:
    return f"{setup.name}, {kind}" if setup.keeps else setup.name


def add_versions(results: Results, places: Homes, subjects: list[tuple[Setup, str]]) -> None:
    """Note the versions of each set-up's packages, and what is special about it."""
    users: dict[str, list[str]] = {}
    for setup in dict.fromkeys(setup for setup, _ in subjects):
        for packages in (setup.shown, WEB_SHOWN):
            with suppress(Missing):  # that is noted already
                versions = places.versions(setup, packages)
                users.setdefault(versions, []).append(setup.name)
        if setup.note:
            results.note(f"{setup}: {setup.note}")
    for versions, names in users.items():
        if versions:
            results.note(f"{versions}: {'; '.join(dict.fromkeys(names))}")


def measure(places: Homes, setup: Setup, kind: str, events: int) -> dict[str, float]:
    """Return the figures of one set-up in one round."""
    with running(places, setup, kind) as service:
        seconds, _ = service.take_effect(WARM_UP)
        events = min(events, round(MOST_SECONDS * WARM_UP / seconds))
        before = service.cpu_seconds()
        seconds, answers = service.take_effect(events)
        cpu_seconds = service.cpu_seconds() - before
    return {
        RATE: events / seconds,
        "events": float(events),
        "ack p99 ms": percentile_99(answers),
        "CPU µs": 1e6 * cpu_seconds / events,
    }


def _compare(results: Results, subjects: list[tuple[Setup, str]]) -> None:
    for setup, kind in subjects:
        if setup not in TEMPLATES:
            results.compare(RATE, named(TEMPLATE, kind), named(setup, kind))
    for whole, alone in QUEUES.items():
        results.compare(RATE, named(whole, "PostgreSQL"), named(alone, "PostgreSQL"))
