"""How long an acknowledgement takes while handlers write, and while they sleep."""

from dataclasses import replace
from functools import partial

from benchmarks.cores import take_cores
from benchmarks.effects import WARM_UP, chosen, named
from benchmarks.homes import Homes, homes
from benchmarks.load import percentile_99
from benchmarks.options import Options
from benchmarks.results import Results
from benchmarks.running import running
from benchmarks.setups import SLEEPING_TEMPLATE, TEMPLATE, Setup

P99 = "ack p99 ms"
WRITING = replace(TEMPLATE, name="handlers write")
SLEEPING = replace(SLEEPING_TEMPLATE, name="handlers sleep")


def run(options: Options) -> Results:
    results = Results("acks")
    with homes(take_cores()) as places:
        for number in range(1, options.rounds + 1):
            for setup, kind in chosen(options, (WRITING, SLEEPING)):
                take = partial(_measure, places, setup, kind, options.events)
                results.measure(named(setup, kind), number, take)
    for kind in options.databases:
        results.compare(P99, named(WRITING, kind), named(SLEEPING, kind))
    return results


def _measure(places: Homes, setup: Setup, kind: str, events: int) -> dict[str, float]:
    with running(places, setup, kind) as service:
        service.acknowledge(WARM_UP)
        seconds, answers = service.acknowledge(events)
    return {"acks/s": events / seconds, P99: percentile_99(answers)}
