"""The write lock: batches of acknowledgements and handlers take turns, and no turn is lost."""

import asyncio

import pytest

from app.inbox.write_lock import WriteLock

pytestmark = pytest.mark.anyio


async def hold(lock: WriteLock, seconds: float, ended: list[None]) -> None:
    """Hold the lock for as long as the transaction of a handler takes."""
    async with lock.for_handler():
        await asyncio.sleep(seconds)
    ended.append(None)


async def test_a_batch_waits_for_a_turn_of_the_handlers_and_not_for_all_of_them() -> None:
    lock = WriteLock()
    ended: list[None] = []
    handlers = [asyncio.create_task(hold(lock, 0.001, ended)) for _ in range(100)]
    await asyncio.sleep(0)

    async with lock.for_batch():
        assert len(ended) < 20

    await asyncio.gather(*handlers)


async def test_handlers_take_their_turn_one_after_the_other() -> None:
    lock = WriteLock()
    inside = 0

    async def handle() -> None:
        nonlocal inside
        async with lock.for_handler():
            inside += 1
            assert inside == 1
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(handle() for _ in range(50)))


async def test_a_turn_that_was_left_to_a_cancelled_handler_is_over() -> None:
    lock = WriteLock()
    async with lock.for_handler():
        next_in_line = asyncio.create_task(hold(lock, 0, []))
        await asyncio.sleep(0)
    next_in_line.cancel()
    await asyncio.wait([next_in_line])

    async with asyncio.timeout(1), lock.for_batch():
        pass
