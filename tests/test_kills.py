"""Processes are killed at random under load: nothing is lost, and nothing is done twice.

CHAOS_KILLS=500 uv run pytest tests/test_kills.py    is the long form: 20 kills unless it is set.
"""

import os
import random
from pathlib import Path

import pytest
from chaos import (
    LEASE,
    LONGEST_HANDOVER,
    SEED,
    SETUPS,
    Provider,
    Service,
    Setup,
    account,
    recording_copy,
    seconds_until_empty,
    surroundings,
)
from conftest import Figures, Install

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")

KILLS = int(os.environ.get("CHAOS_KILLS") or 20)


@pytest.mark.parametrize("setup", SETUPS, ids=str)
def test_whatever_is_killed_every_event_is_done_exactly_once(
    setup: Setup, install: Install, tmp_path: Path, figures: Figures
) -> None:
    chance = random.Random(SEED)  # noqa: S311
    figures(seed=SEED, kills=KILLS)
    project = recording_copy(install, setup.processing, tmp_path)
    with (
        surroundings(setup, tmp_path) as (database, environment),
        Service(project, setup.processing, apis=2, workers=2, **environment) as service,
    ):
        with Provider(service.ports) as provider:
            for _ in range(KILLS):
                service.kill_one(chance)
            service.wait_until_at_work()
        # The last one killed may hold a lease, or have taken a message with it.
        within = LEASE + LONGEST_HANDOVER + 10
        figures(seconds_until_empty=seconds_until_empty(database, within, service.keep))
        figures(**account(database, provider.answers))
