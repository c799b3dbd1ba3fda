"""How long an acknowledgement takes while handlers write, and while they sleep."""

from dataclasses import replace

from benchmarks.cores import take_cores
from benchmarks.effects import WARM_UP, chosen, named
from benchmarks.homes import homes
from benchmarks.load import percentile_99
from benchmarks.options import Options
from benchmarks.results import Results
from benchmarks.running import running
from benchmarks.servers import Missing
from benchmarks.setups import SLEEPING_TEMPLATE, TEMPLATE

P99 = "ack p99 ms"
WRITING = replace(TEMPLATE, name="handlers write")
SLEEPING = replace(SLEEPING_TEMPLATE, name="handlers sleep")


def run(options: Options) -> Results:
    results = Results("acks")
    with homes(take_cores()) as places:
        for number in range(1, options.rounds + 1):
            for setup, kind in chosen(options, (WRITING, SLEEPING)):
                name = named(setup, kind)
                try:
                    with running(places, setup, kind) as service:
                        service.acknowledge(WARM_UP)
                        seconds, answers = service.acknowledge(options.events)
                except Missing as missing:
                    results.leave_out(name, missing)
                    continue
                rate = options.events / seconds
                results.add(name, number, {"acks/s": rate, P99: percentile_99(answers)})
    for kind in options.databases:
        results.compare(P99, named(WRITING, kind), named(SLEEPING, kind))
    return results
