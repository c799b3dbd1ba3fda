"""Many at once: processes on an empty database, and deliveries of one event."""

import pytest
from conftest import Figures
from live.sender import deliver
from live.service import FEW_SETUPS, RECOVERY, Setup

from attacks.conftest import Run

PROCESSES = 6


@pytest.mark.parametrize("setup", FEW_SETUPS, ids=str)
def test_processes_that_begin_at_once_on_an_empty_database_handle_five_hundred_copies_once(
    setup: Setup, run: Run, figures: Figures
) -> None:
    workers = PROCESSES // 2 if setup.broker else 0
    with run(
        setup,
        "await leave_effect(event)",
        webs=PROCESSES - workers,
        workers=workers,
        settings={
            "ENVIRONMENT": "development",  # where each process migrates at its start
            "ACK_DEADLINE_SECONDS": "10",  # the sender makes the machine busy
        },
    ) as service:
        for port in service.ports:
            assert [answer.status for answer in deliver([port], f"evt_{port}")] == [200]
        answers = deliver(service.ports, "evt_1", times=500)
        figures(slowest_seconds=max(answer.seconds for answer in answers))
        service.seconds_until_handled(RECOVERY)
        assert "the database did not commit" not in service.printed
        assert {answer.status for answer in answers} == {200}
        assert service.database.count("state = 'done'") == len(service.ports) + 1
        effects = service.database.rows("SELECT count(*) FROM effects")
    assert effects == [(len(service.ports) + 1,)]
