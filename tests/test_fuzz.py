"""Whatever is sent: no crash, nothing kept that is not proved, and what is kept is what was sent.

`FUZZ_EXAMPLES` is how many requests each provider gets, `FUZZ_SEED` makes a run repeatable.
"""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from attempts import MAX_BODY_BYTES, Attempt, attempts
from conftest import Install
from hostile import Client
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from live import Database, Server, sqlite_database, wait_for
from project import CHOICES, Variant, clean_environment
from senders import SENDERS, Sender

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "800"))
SEED = int(os.environ["FUZZ_SEED"])  # tests/conftest.py chooses one and prints it


@dataclass
class Target:
    """A service, and what it has let in so far."""

    sender: Sender
    server: Server
    database: Database
    last: int = 0
    kept: dict[str, bytes] = field(default_factory=dict)
    signatures: dict[bytes, bytes] = field(default_factory=dict)
    answers: Counter[int] = field(default_factory=Counter)

    def send(self, attempt: Attempt) -> tuple[int, bytes]:
        """Return status and body of the answer."""
        client = Client(self.server.port)
        line = f"POST /webhooks/{self.sender.name} HTTP/1.1\r\n"
        client.send(line.encode() + attempt.raw)
        answer = client.read()
        client.leave()
        [status] = answer.statuses
        self.answers[status] += 1
        return status, answer.raw.partition(b"\r\n\r\n")[2]

    def newly_kept(self) -> list[tuple[object, ...]]:
        """Return id, type and payload of what was kept since the last call."""
        query = "SELECT id, event_id, type, payload FROM inbox WHERE id > "
        rows = self.database.rows(f"{query}{self.last} ORDER BY id")
        for number, id, _, payload in rows:
            assert isinstance(number, int)
            assert isinstance(payload, bytes)
            self.last, self.kept[str(id)] = number, payload
        return [row[1:] for row in rows]

    def check(self, attempt: Attempt) -> None:
        """Send a request, and fail if anything that becomes of it is not as promised."""
        status, answer = self.send(attempt)
        kept = self.newly_kept()
        if status != 200:
            assert kept == []
            assert (status, answer) in REFUSALS or status in {400, 413, 422}
            assert status != 413 or len(attempt.body) > MAX_BODY_BYTES
            return
        assert self.sender.proves(attempt.headers, attempt.body)
        signature = b"".join(value for name, value in attempt.headers if b"Type" not in name)
        assert not signature or self.signatures.setdefault(signature, attempt.body) == attempt.body
        data = json.loads(attempt.body)
        id, type = data.get("id"), str(data["type"])
        id = hashlib.sha256(attempt.body).hexdigest() if id is None else str(id)
        assert kept in ([(id, type, attempt.body)], [])
        assert id in self.kept


REFUSALS = [(401, b'{"detail":"invalid signature"}')]


@pytest.fixture(scope="module", params=[name for name in CHOICES["provider"] if name in SENDERS])
def chosen(request: pytest.FixtureRequest) -> Sender:
    return SENDERS[request.param]


@pytest.fixture(scope="module")
def target(
    chosen: Sender, install: Install, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Target]:
    project = install(Variant(chosen.name, "background"))
    with sqlite_database(tmp_path_factory.mktemp("fuzz")) as database:
        environment = chosen.environment | {
            "DATABASE_URL": database.url,
            "ENVIRONMENT": "development",
            "MAX_BODY_BYTES": str(MAX_BODY_BYTES),
            "BODY_TIMEOUT_SECONDS": "2",
            "MAX_ATTEMPTS": "1",
        }
        with Server(project, environment, "app.main:app") as server:
            target = Target(chosen, server, database)
            target.check(Attempt(chosen.sign(PLAIN), PLAIN))
            assert len(target.kept) == 1
            yield target
            # Odd events too are handled to an end.
            wait_for(lambda: database.count("state = 'pending'") == 0, "all to be done or dead")
            server.check()
            assert "Traceback" not in server.printed


PLAIN = b'{"id": "evt_plain", "type": "test.happened", "data": {"object": {}}}'


def test_no_request_that_grows_from_a_valid_one_breaks_a_promise(target: Target) -> None:
    @seed(SEED)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def run(data: st.DataObject) -> None:
        target.check(data.draw(attempts(target.sender, int(time.time()))))

    before = sum(target.answers.values())
    run()
    assert sum(target.answers.values()) - before >= EXAMPLES * 9 // 10
    # Neither all refused nor all let in, or else this would prove little.
    assert min(target.answers[200], sum(target.answers.values()) - target.answers[200]) > 10
    print(f"{target.sender.name}: {dict(target.answers)}, FUZZ_SEED={SEED}")  # noqa: T201


def test_every_answer_to_made_up_requests_is_documented(target: Target, tmp_path: Path) -> None:
    checks = "not_a_server_error,status_code_conformance,content_type_conformance"
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", "--no-color"),
        *("--checks", checks, "--max-examples", str(EXAMPLES // 4), "--seed", str(SEED)),
        *("--generation-database", "none", "--continue-on-failure"),
        f"http://127.0.0.1:{target.server.port}/openapi.json",
    ]
    hooks = {"SCHEMATHESIS_HOOKS": "senders", "SENDER": target.sender.name}
    path = {"PYTHONPATH": str(Path(__file__).parent), "PYTHONUTF8": "1"}
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=clean_environment(**hooks, **path),
        capture_output=True,
        encoding="utf-8",
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert target.newly_kept(), "none of the requests was let in: " + done.stdout
