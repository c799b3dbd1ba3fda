"""Many at once: deliveries of one event, and processes on an empty database."""

import os
from pathlib import Path

import pytest
from chaos import (
    LEASE,
    LONGEST_HANDOVER,
    SETUPS,
    Service,
    Setup,
    deliver,
    recording_copy,
    seconds_until_empty,
    surroundings,
)
from conftest import Figures, Install

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")

IN_PROCESS = [setup for setup in SETUPS if setup.processing == "background"]


@pytest.mark.parametrize("setup", IN_PROCESS, ids=str)
def test_five_hundred_deliveries_of_one_event_are_acknowledged_and_handled_once(
    setup: Setup, install: Install, tmp_path: Path, figures: Figures
) -> None:
    project = recording_copy(install, setup.processing, tmp_path)
    with (
        surroundings(setup, tmp_path) as (database, environment),
        # The sender is on the same machine, and makes it busy.
        Service(
            project, setup.processing, 4, 0, ACK_DEADLINE_SECONDS="10", **environment
        ) as service,
    ):
        answers = deliver(service.ports, "evt_1", times=500)
        figures(slowest=f"{1000 * max(answer.seconds for answer in answers):.0f} ms")
        seconds_until_empty(database, LEASE + LONGEST_HANDOVER)
        assert [answer for answer in answers if answer.status != 200] == []
        assert database.rows("SELECT event_id, state FROM inbox") == [("evt_1", "done")]
        assert database.rows("SELECT event_id FROM effects") == [("evt_1",)]


@pytest.mark.parametrize("setup", IN_PROCESS, ids=str)
def test_eight_processes_that_begin_at_once_on_an_empty_database_all_acknowledge(
    setup: Setup, install: Install, tmp_path: Path
) -> None:
    project = recording_copy(install, setup.processing, tmp_path)
    with (
        surroundings(setup, tmp_path) as (database, environment),
        Service(project, setup.processing, 8, 0, **environment) as service,
    ):
        for port in service.ports:
            assert [answer.status for answer in deliver([port], f"evt_{port}")] == [200]
        service.check()
        seconds_until_empty(database, LEASE + LONGEST_HANDOVER)
        assert database.count("state = 'done'") == len(service.ports)
