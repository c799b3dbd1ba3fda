"""Events that break whatever handles them end as dead, and those beside them are handled."""

from collections import Counter
from functools import partial

import pytest
from conftest import Figures
from live.processes import wait_for
from live.sender import SEED, Sender, deliver
from live.service import EACH_PROCESSING, RECOVERY, Service, Setup, account

from attacks.conftest import Run

MAX_ATTEMPTS = 4

# Does harm until it is cured, and notes each time that it is called.
HANDLER = """
    if not Path("cured").exists():
        with open("calls", "a") as calls:
            calls.write(f"{event.type}\\n")
        match event.type:
            case "poison.raises":
                raise ValueError("poison")
            case "poison.hangs":
                await asyncio.Event().wait()
            case "poison.kills":
                os._exit(1)
    await leave_effect(event)
"""

POISONS = {
    "poison.raises": "ValueError: poison",
    "poison.hangs": "TimeoutError",
    "poison.kills": "its process died",
}


def is_dead(service: Service, poison: str) -> bool:
    service.restart_ended()  # as a supervisor does: this is the one attack that ends processes
    return service.database.count(f"event_id = '{poison}' AND state = 'dead'") == 1


@pytest.mark.parametrize("setup", EACH_PROCESSING, ids=str)
def test_what_poisons_its_handler_is_dead_in_the_end_and_nothing_else_is(
    setup: Setup, run: Run, figures: Figures
) -> None:
    figures(seed=SEED)
    # The shorter a lease, the sooner is an event attempted again that kills its process.
    settings = {
        "ACK_DEADLINE_SECONDS": "1",
        "HANDLER_TIMEOUT_SECONDS": "0.5",
        "MAX_ATTEMPTS": str(MAX_ATTEMPTS),
    }
    with run(setup, HANDLER, settings=settings) as service:
        database = service.database
        with Sender(service.ports, number=2, pause=0.2) as sender:
            for poison in POISONS:  # one after another, or the last would end the others' attempts
                sender.answers += deliver(service.ports, poison, poison)
                wait_for(partial(is_dead, service, poison), f"{poison} to be dead")
                if poison != "poison.kills":  # who is beside that one loses an attempt
                    assert database.count("event_id LIKE 'evt%' AND attempts > 1") == 0
            figures(handled_meanwhile=database.count("state = 'done'"))
            service.start_again()
        dead = database.rows("SELECT event_id, error FROM webhook_events WHERE state = 'dead'")
        calls = Counter(service.project.read("calls").split())

        service.project.write("cured", "")
        service.run("app replay --dead")
        figures(seconds_until_handled=service.seconds_until_handled(RECOVERY))
        figures(**account(database, sender.answers))

    errors = {str(event_id): str(error) for event_id, error in dead}
    assert errors.keys() == POISONS.keys()
    for poison, reason in POISONS.items():
        assert reason in errors[poison]
        assert calls[poison] == MAX_ATTEMPTS
