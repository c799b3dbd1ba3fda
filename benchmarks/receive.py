"""Requests per second, and how long an answer takes, where nothing else is done.

The template's handler sleeps. The snippet's does nothing, because the answer waits for it.
"""

from functools import partial

from benchmarks.cores import take_cores
from benchmarks.effects import add_versions, chosen, named
from benchmarks.homes import Homes, homes
from benchmarks.load import percentile_99
from benchmarks.options import Options
from benchmarks.results import Results
from benchmarks.running import running
from benchmarks.setups import SLEEPING_TEMPLATE, SQLITE, WEB, Program, Setup, web

RATE = "requests/s"
P99 = "p99 ms"
WARM_UP = 300  # requests that are sent before
SECONDS = 5  # by the pace of the warm-up

SNIPPET = Setup(
    "the snippet, no effect",
    (web("snippet_idle"),),
    databases=(SQLITE,),
    keeps=False,
)
CONSTRUCT_EVENT = Setup(
    "stripe's construct_event, nothing kept",
    (web("construct_event"),),
    databases=(SQLITE,),
    keeps=False,
    packages=(*WEB, "stripe"),
    shown=("stripe",),
)
TRANSACTION = Setup("a transaction a request", (web("transaction"),))
GUNICORN = (
    "{bin}/gunicorn djstripe_site:application --bind 127.0.0.1:{port}"
    " --workers 1 --worker-class gthread --threads 4"
)
DJSTRIPE = Setup(
    "dj-stripe",
    (Program("web", GUNICORN, "Booting worker"),),
    packages=("dj-stripe", "gunicorn", "psycopg[binary]"),
    shown=("dj-stripe", "django", "gunicorn"),
    prepare=("{bin}/python {baselines}/djstripe_site.py",),
    path="/stripe/webhook/11111111-1111-4111-8111-111111111111/",
)
KEEP_NOTHING = (SNIPPET, CONSTRUCT_EVENT)
KEEP = (TRANSACTION, DJSTRIPE)


def run(options: Options) -> Results:
    results = Results("receive")
    subjects = chosen(options, (SLEEPING_TEMPLATE, *KEEP, *KEEP_NOTHING))
    with homes(take_cores()) as places:
        for number in range(1, options.rounds + 1):
            for setup, kind in subjects:
                results.measure(named(setup, kind), number, partial(_measure, places, setup, kind))
        add_versions(results, places, subjects)
    for kind in options.databases:
        ours = named(SLEEPING_TEMPLATE, kind)
        others = [named(setup, kind) for setup in KEEP]
        for other in [*others, *(named(setup, SQLITE) for setup in KEEP_NOTHING)]:
            results.compare(RATE, ours, other)
        results.compare(P99, ours, named(SNIPPET, SQLITE))
    return results


def _measure(places: Homes, setup: Setup, kind: str) -> dict[str, float]:
    with running(places, setup, kind) as service:
        seconds, _ = service.acknowledge(WARM_UP)
        requests = round(SECONDS * WARM_UP / seconds)
        before = service.cpu_seconds()
        seconds, answers = service.acknowledge(requests)
        cpu_seconds = service.cpu_seconds() - before
    return {
        RATE: requests / seconds,
        P99: percentile_99(answers),
        "CPU µs": 1e6 * cpu_seconds / requests,
    }
