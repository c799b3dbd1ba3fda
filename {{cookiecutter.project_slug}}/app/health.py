"""Health: whether this process answers, and whether it could store a webhook now.

Anybody can ask. So an answer names what is wrong, and only the log says why.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import sqlalchemy as sa
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse

from app.inbox.engines import create_engine, unusable
from app.inbox.writers import in_a_thread
from app.schema import COMMAND, HISTORIES, SchemaUnusable, compare

CHECK_SECONDS = 3  # less than probes wait

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Problem:
    """What keeps events from being stored.

    Args:
        what: For whoever asks. It holds nothing of settings and addresses.
        why: For the operator.
    """

    what: str
    why: str = ""


AWAY = "the database does not answer"
OUTDATED = "the schema is not current"
NOT_STARTED = Problem("the lifespan of the router has not run")
SHUTDOWN = Problem("the process is shutting down")


def find_problem(engine: sa.Engine) -> Problem | None:
    """Ask the database whether it answers and has the schema of this code."""
    try:
        with engine.connect() as connection:
            outdated = [each.name for each in HISTORIES if compare(connection, each).is_older]
    except SchemaUnusable as error:
        return Problem(OUTDATED, str(error))
    except (sa.exc.SQLAlchemyError, OSError) as error:
        return Problem(AWAY, unusable(error))
    if outdated:
        return Problem(OUTDATED, f"{' and '.join(outdated)}: run {COMMAND}")
    return None


class Health:
    """The health of a web process.

    However many ask, one connection to the database is used at a time. One that hangs blocks no
    more than its own thread.
    """

    def __init__(self) -> None:
        self._engine = create_engine()
        self._check: asyncio.Task[Problem | None] | None = None
        self._is_stopping = False

    async def problem(self) -> Problem | None:
        """Return what keeps this process from storing events."""
        if self._is_stopping:
            return SHUTDOWN
        if self._check is None or self._check.done():
            check = partial(find_problem, self._engine)
            self._check = asyncio.create_task(in_a_thread(check))
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                return await asyncio.shield(self._check)
        except TimeoutError:
            return Problem(AWAY, f"not within {CHECK_SECONDS} s")

    def stop(self) -> None:
        """Be ready no more."""
        self._is_stopping = True
        if self._check is not None:
            self._check.cancel()
        self._engine.dispose()


def health_router() -> APIRouter:
    """Return a router for probes: `application.include_router(health_router())`."""
    router = APIRouter(prefix="/health", lifespan=_lifespan, tags=["health"])

    @router.get("/live")
    async def live() -> dict[str, str]:
        """Answer. Where this takes too long, a restart helps."""
        return {"status": "live"}

    @router.get("/ready", responses={503: {"description": "No webhook could be stored now."}})
    async def ready(request: Request) -> Response:
        """Tell whether webhooks can be stored now. Where not, send them to another process."""
        health: Health | None = getattr(request.state, "health", None)
        problem = await health.problem() if health else NOT_STARTED
        if problem is None:
            return JSONResponse({"status": "ready"})
        logger.warning("not ready: %s: %s", problem.what, problem.why)
        return JSONResponse({"status": "not ready", "problem": problem.what}, 503)

    return router


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[dict[str, Health]]:
    health = Health()
    try:
        yield {"health": health}
    finally:
        health.stop()
