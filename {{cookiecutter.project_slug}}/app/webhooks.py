"""POST /webhooks/<provider>: verify, keep, acknowledge. Handing over comes after the answer."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from opentelemetry import metrics
from starlette.requests import ClientDisconnect

from app.commits import StoreUnavailable
from app.config import settings
from app.events import Event, Malformed, Unauthorized
from app.providers import Provider

logger = logging.getLogger(__name__)
meter = metrics.get_meter(__name__)
received = meter.create_counter("webhooks.received", description="acknowledged deliveries")
refused = meter.create_counter("webhooks.refused", description="refused deliveries, by reason")


class WebhookRoute(APIRoute):
    """A route whose one dependency verifies, within `BODY_TIMEOUT_SECONDS`.

    A plain route would do the same; but FastAPI takes longer to solve dependencies in general than
    it takes to verify an event and to keep it.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what FastAPI calls with a request."""
        verify: Any = self.dependant.dependencies[0].call

        async def handle(request: Request) -> Any:
            async with asyncio.timeout(settings.body_timeout_seconds):
                event = await verify(request)
            return await self.endpoint(request, event)

        return handle


def router(name: str, provider: Provider) -> APIRouter:
    """Return the route of one provider."""
    routes = APIRouter(route_class=WebhookRoute)
    verified = Depends(provider.verify)
    answers = ANSWERS | getattr(provider, "ANSWERS", {})

    @routes.post(f"/webhooks/{name}", response_class=JSONResponse, responses=answers)
    async def receive(request: Request, event: Annotated[Event, verified]) -> Response:
        """Acknowledge an event once it is committed, new or not."""
        try:
            new = await request.app.state.inbox.add(event)
        except (StoreUnavailable, TimeoutError):
            logger.error("not acknowledged: the database did not commit %s", event.id)
            return JSONResponse({"detail": "try again later"}, 503, {"Retry-After": "10"})
        received.add(1, {"provider": name, "duplicate": not new})
        return Response(b'{"received": true}', media_type="application/json")

    return routes


async def refuse(request: Request, error: Exception) -> Response:
    """Answer a request that is no event. Why, an impostor is not told: see log and counter."""
    status, detail = REFUSALS[type(error)]
    reason = str(error) or detail
    refused.add(1, {"reason": reason})
    logger.warning("refused %s with %d: %s", request.url.path, status, reason)
    return JSONResponse({"detail": detail}, status, {"Connection": "close"})


REFUSALS: dict[type[Exception], tuple[int, str]] = {
    Unauthorized: (401, "invalid signature"),
    Malformed: (400, "not an event: it needs to be JSON, with an id and a type"),
    TimeoutError: (408, "the body did not arrive in time"),
    ClientDisconnect: (400, "the sender has gone"),
}
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The event is kept, now or since an earlier delivery."},
    400: {"description": "Authentic, but not JSON, or without an id or a type."},
    401: {"description": "The signature is missing, malformed, wrong, stale or from the future."},
    408: {"description": "The body did not arrive in time."},
    413: {"description": "The body is too large."},
    503: {"description": "The database is out of reach: try again after Retry-After seconds."},
}
