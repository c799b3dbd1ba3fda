"""What becomes of acknowledged events when each process of a set-up is killed under load.

An acknowledged event is *lost* if it had no effect, and its id is in no store of the set-up any
more. It is *stuck* if its id is still there, and yet no effect has come for `PATIENCE` seconds.
An effect that was done *twice* has left two rows: here the table has no primary key, so that
ON CONFLICT hides nothing.
"""

import random
import time
from collections import Counter
from functools import partial

from benchmarks.cores import take_cores
from benchmarks.effects import add_versions, chosen, named
from benchmarks.homes import Homes, homes
from benchmarks.load import Senders, order_of
from benchmarks.options import Options
from benchmarks.results import Results
from benchmarks.running import Running, running
from benchmarks.setups import PEERS, RABBITMQ, TEMPLATES, Setup
from benchmarks.stores import found_in_stores

PATIENCE = 130  # seconds: a lease of the template lasts up to 98, a job of arq 70 if it is careful
UNKNOWN_SECONDS = 15  # in no store for so long: lost
SHORTEST, LONGEST = 0.2, 1.5  # seconds that a process works before it is killed


def run(options: Options) -> Results:
    results = Results("kills")
    # RabbitMQ's own process is not ours to kill, so its set-ups would be spared.
    setups = [setup for setup in (*TEMPLATES, *PEERS) if setup.broker != RABBITMQ]
    subjects = chosen(options, tuple(setups))
    with homes(take_cores()) as places:
        for setup, kind in subjects:
            take = partial(_measure, places, setup, kind, options.kills)
            results.measure(named(setup, kind), 1, take)
            results.note(f"{setup}, each killed {options.kills} times: {_killed(setup)}")
        add_versions(results, places, subjects)
    results.note(f"stuck: known to the set-up, but without effect {PATIENCE} s after the last one")
    results.note("PostgreSQL is not killed: what it has committed, it keeps for all of them")
    return results


def _killed(setup: Setup) -> str:
    names = [program.name for program in setup.programs]
    return ", ".join([*names, "Redis"] if setup.broker else names)


def _measure(places: Homes, setup: Setup, kind: str, kills: int) -> dict[str, float]:
    with running(places, setup, kind, unique=False) as service:
        with Senders(service.port, setup.path) as senders:
            for _ in range(kills):
                _kill_each(service)
            for number in range(len(setup.programs)):
                service.wait_until_at_work(number)
        without = _wait_for_effects(service, senders.acknowledged)
        kept = _kept(service, without)
        rows = _effects(service)
    return {
        "acknowledged": len(senders.acknowledged),
        "lost": len(without - kept),
        "stuck": len(kept),
        "twice": sum(1 for number in rows.values() if number > 1),
    }


def _kill_each(service: Running) -> None:
    """Kill each process once, in any order, when it has worked for a moment."""
    numbers = list(range(len(service.setup.programs)))
    random.shuffle(numbers)
    for number in numbers:
        service.wait_until_at_work(number)
        time.sleep(random.uniform(SHORTEST, LONGEST))  # noqa: S311
        service.kill_and_restart(number)
    if service.redis:
        time.sleep(random.uniform(SHORTEST, LONGEST))  # noqa: S311
        service.redis.kill_and_restart()


def _wait_for_effects(service: Running, acknowledged: set[str]) -> set[str]:
    """Wait for effects until none can be expected any more; return the events without one."""
    seen = 0
    progress = known = time.monotonic()
    while True:
        service.restart_ended()
        effects = _effects(service)
        without = {each for each in acknowledged if order_of(each) not in effects}
        now = time.monotonic()
        if len(effects) > seen:
            seen = len(effects)
            progress = known = now
        elif without & found_in_stores(service):
            known = now
        if not without or now - progress > PATIENCE or now - known > UNKNOWN_SECONDS:
            return without
        time.sleep(1)


def _kept(service: Running, without: set[str]) -> set[str]:
    """Return the events that are in a store now or soon: one may be moving between stores."""
    kept: set[str] = set()
    for _ in range(5):
        kept |= without & found_in_stores(service)
        time.sleep(1)
    return kept


def _effects(service: Running) -> Counter[str]:
    return Counter(str(order) for (order,) in service.database.rows("SELECT id FROM orders"))
