"""The next steps that are printed after a project is generated work as they stand."""

import json
from pathlib import Path

import pytest
from live.databases import Database
from live.processes import wait_for
from live.shared import REDIS
from project import CHOICES, generate, user_config

from readme.terminal import Terminal


@pytest.mark.parametrize("processing", CHOICES["processing"])
def test_the_next_steps_can_be_typed_as_they_are_printed(tmp_path: Path, processing: str) -> None:
    if processing == "arq":
        REDIS.require()
    folder = tmp_path / "new"
    generated = generate(folder, "provider=stripe", f"processing={processing}")
    assert generated.returncode == 0, generated.stderr
    _, _, steps = generated.stdout.partition("Next steps")
    blocks = [block for block in steps.split("\n\n") if block.startswith("  ")]
    assert len(blocks) >= 2
    assert blocks[-1].splitlines()[-1].split() == ["uv", "run", "pytest"]
    database = Database(f"sqlite:///{folder / 'my-webhooks' / 'inbox.db'}")

    with Terminal(folder, COOKIECUTTER_CONFIG=user_config(folder)) as terminal:
        for block in blocks:
            terminal.folder = folder  # each block has a terminal of its own
            for line in block.splitlines():
                if line.split() != ["uv", "run", "pytest"]:  # test_variants.py does
                    terminal.type(line)
        wait_for(lambda: database.count("state = 'done'") == 1, "the sample to be handled")
        listed = json.loads(terminal.type("uv run python -m app events --json"))
        assert listed["state"] == "done"
    assert database.rows("SELECT status, periods_paid FROM subscriptions") == [("active", 1)]
