"""The service in processes of its own."""

import pytest

from tests.engine.process import PATIENCE, python

pytestmark = pytest.mark.processes

SCRIPT = """
from fastapi.testclient import TestClient
from app.processing import dispatcher
from tests.delivery import NoQueue
from tests.engine.service import URL, app, body, signed

dispatcher.Queue = NoQueue
with TestClient(app) as client:
    print(client.post(URL, content=body(), headers=signed(body())).json())
print("the script goes on")
"""


@pytest.mark.usefixtures("database")
def test_a_script_that_uses_the_test_client_goes_on_and_ends() -> None:
    with python("-c", SCRIPT) as script:
        output, _ = script.communicate(timeout=PATIENCE)

    assert "{'received': True}\nthe script goes on\n" in output
    assert script.returncode == 0
