"""Messages in Redis, and arq's worker that takes them. The Redis is a stand-in in this process."""

import asyncio
import json
import pickle
import re
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from arq import ArqRedis, create_pool
from arq.worker import Worker, create_worker
from fakeredis import TcpFakeServer
from redis.exceptions import ConnectionError as RedisDown
from redis.exceptions import WatchError

from app.events import Event
from app.inbox.inbox import Inbox, Reference
from app.processing import broker
from app.processing.queue import Queue, broker_problem
from app.processing.worker import END_SECONDS, bound_the_end, make_worker
from app.settings import settings
from app.webhooks.endpoint import Handler, by_name
from tests.delivery import Database
from tests.engine.service import delivery, endpoint, handle
from tests.engine.store import make_due, stored

pytestmark = pytest.mark.anyio


@pytest.fixture
def redis_url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Run a stand-in for Redis."""
    server = TcpFakeServer(("127.0.0.1", 0), server_type="redis")
    thread = threading.Thread(target=server.serve_forever, args=[0.01], daemon=True)
    thread.start()
    url = f"redis://127.0.0.1:{server.server_address[1]}/"
    monkeypatch.setattr(broker.settings, "broker_url", url)
    monkeypatch.setattr("arq.worker.log_redis_info", _no_info)
    monkeypatch.setattr("app.processing.worker.bound_the_end", lambda: None)  # the tests go on
    yield url
    server.shutdown()
    server.server_close()


async def _no_info(*_: Any) -> None:
    """Do nothing: the stand-in does not know the command."""


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[ArqRedis]:
    pool = await broker.connect()
    yield pool
    await pool.aclose()


@pytest.fixture
async def queue(inbox: Inbox, redis_url: str) -> AsyncIterator[Queue]:
    queue = Queue(inbox, by_name([endpoint()]))
    yield queue
    await queue.close()


async def work(handler: Handler = handle) -> None:
    """Run a worker until the queue is empty."""
    worker: Worker = create_worker(
        make_worker([endpoint(handler)]), burst=True, handle_signals=False
    )
    await worker.main()
    await worker.close()


async def test_a_worker_handles_what_is_dispatched(
    queue: Queue, inbox: Inbox, database: Database
) -> None:
    await inbox.add("test", delivery())

    assert await queue.dispatch() == 1
    await work()

    assert (await stored(database)).state == "done"


async def test_a_message_is_json_and_carries_a_reference_only(
    queue: Queue, inbox: Inbox, database: Database, redis: ArqRedis
) -> None:
    await inbox.add("test", delivery())
    await queue.dispatch()

    [job_id] = await redis.zrange(broker.settings.queue_name, 0, -1)
    message = json.loads(await redis.get(b"arq:job:" + job_id))

    assert message["a"] == [(await stored(database)).id, 0]
    assert message["k"] == {}


async def test_the_queue_carries_the_name_of_the_project(redis: ArqRedis) -> None:
    assert broker.settings.queue_name == broker.project_name()
    assert redis.default_queue_name == broker.project_name()


async def test_a_message_that_comes_twice_is_handled_once(
    queue: Queue, inbox: Inbox, database: Database, redis: ArqRedis
) -> None:
    handled = []

    async def count(event: Event) -> None:
        handled.append(event.id)

    await inbox.add("test", delivery())
    await queue.dispatch()
    await redis.enqueue_job("attempt", *Reference((await stored(database)).id, 0))
    await work(count)

    assert handled == ["evt_1"]


async def test_what_a_pickle_would_do_is_not_done(
    queue: Queue, inbox: Inbox, database: Database
) -> None:
    pickles = await create_pool(
        broker.redis_settings(),
        default_queue_name=broker.settings.queue_name,
        job_serializer=lambda job: pickle.dumps(job | {"k": {"x": Pickled()}}),
    )
    await pickles.enqueue_job("attempt", 1, 0)
    await pickles.aclose()
    await inbox.add("test", delivery())
    await queue.dispatch()

    await work()

    assert ran == []
    assert (await stored(database)).state == "done"


ran: list[str] = []


def run(text: str) -> None:
    """What the sender of a pickle wants to be called."""
    ran.append(text)


class Pickled:
    """Calls a function when it is unpickled."""

    def __reduce__(self) -> Any:
        return (run, ("anything",))


async def test_without_redis_the_events_are_due_again_at_once(
    inbox: Inbox, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker.settings, "broker_url", "redis://127.0.0.1:1")
    queue = Queue(inbox, by_name([endpoint()]))
    await inbox.add("test", delivery())

    with pytest.raises(RedisDown):
        await queue.dispatch()

    assert [claim.event_id for claim in await inbox.claim_due(1)] == ["evt_1"]


async def test_the_check_says_whether_redis_answers(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await broker_problem() == ""
    monkeypatch.setattr(broker.settings, "broker_url", "redis://:secret@127.0.0.1:1")

    problem = await broker_problem()
    assert problem is not None
    assert re.fullmatch(r"BROKER_URL: Error 111 .*: is it running\?", problem)


async def test_what_redis_refuses_is_due_again_at_once(
    queue: Queue, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: Any, **__: Any) -> None:
        raise RedisDown("READONLY")

    monkeypatch.setattr(ArqRedis, "enqueue_job", refuse)
    await inbox.add("test", delivery())

    with pytest.raises(RedisDown):
        await queue.dispatch()

    assert [claim.event_id for claim in await inbox.claim_due(1)] == ["evt_1"]


async def test_a_lost_message_is_dispatched_again(
    queue: Queue, inbox: Inbox, database: Database, redis: ArqRedis
) -> None:
    await inbox.add("test", delivery())
    await queue.dispatch()
    await redis.flushall()
    await make_due(database)

    assert await queue.dispatch() == 1
    await work()

    assert (await stored(database)).state == "done"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "BROKER_URL is not set: use redis://"),
        ("http://localhost", "BROKER_URL is not a valid URL"),
        ("localhost:6379", "BROKER_URL is not a valid URL"),
        ("redis://localhost/?foo=1", "BROKER_URL has options that arq does not know: remove foo"),
    ],
)
async def test_a_url_that_cannot_be_used_refuses_the_start(
    url: str, problem: str, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker.settings, "broker_url", url)

    with pytest.raises(SystemExit, match="BROKER_URL") as refusal:
        Queue(inbox, {})

    assert str(refusal.value).startswith(problem)
    assert "\n" not in str(refusal.value)


def test_a_url_is_read_as_redis_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker.settings, "broker_url", "rediss://me:p%40ss@example.com:7000/2")

    read = broker.redis_settings()

    assert (read.host, read.port, read.database) == ("example.com", 7000, 2)
    assert (read.username, read.password) == ("me", "p@ss")
    assert read.ssl
    assert read.ssl_check_hostname


async def test_a_connection_that_is_lost_while_a_message_is_taken_ends_no_worker(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(broker, "RETRY_SECONDS", 0)
    retry = broker.for_workers().retry
    assert retry is not None
    answers = iter([None, b"1"])

    async def execute() -> bytes:
        answer = next(answers)
        if answer is not None:
            return answer
        raise RedisDown("nobody listens")

    async def fail(_: Exception) -> None:
        raise WatchError  # as a pipeline does that watches a key

    assert await retry.call_with_retry(execute, fail) == b"1"
    assert "BROKER_URL: nobody listens; trying again" in caplog.text


async def test_a_worker_that_is_to_end_connects_to_nothing_again() -> None:
    retry = broker.for_workers().retry
    assert retry is not None

    async def execute() -> bytes:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        raise RedisDown

    async def fail(_: Exception) -> None:
        raise AssertionError("it goes on")

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(retry.call_with_retry(execute, fail))


async def test_the_end_of_a_worker_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    bounds: list[float] = []
    monkeypatch.setattr("app.processing.worker.end_within", bounds.append)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    try:
        loop.add_signal_handler(signal.SIGTERM, told.set)  # as arq does before
        await asyncio.create_task(_start())
        await asyncio.sleep(0)
        assert bounds == [END_SECONDS]  # when that task, which stands for arq's, has ended

        signal.raise_signal(signal.SIGTERM)
        async with asyncio.timeout(2):
            await told.wait()
        assert bounds[1:] == [settings.grace_period_seconds + END_SECONDS]
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
        for number, handler in handlers.items():
            signal.signal(number, handler)


async def _start() -> None:
    bound_the_end()


def test_a_worker_lets_its_attempts_end(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    worker: Any = make_worker([endpoint()])

    assert worker.job_completion_wait == settings.grace_period_seconds
    assert worker.job_timeout > settings.handler_timeout_seconds
