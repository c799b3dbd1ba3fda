"""POST /webhooks/<provider>: verify, keep, acknowledge. Handing over comes after the answer."""

import asyncio
import logging
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from opentelemetry import metrics
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from app.commits import StoreUnavailable
from app.config import settings
from app.events import Event, Malformed, Unauthorized
from app.providers import Provider

logger = logging.getLogger(__name__)
meter = metrics.get_meter(__name__)
received = meter.create_counter("webhooks.received", description="acknowledged deliveries")
refused = meter.create_counter("webhooks.refused", description="refused deliveries, by reason")


def router(name: str, provider: Provider) -> APIRouter:
    """Return the route of one provider."""
    routes = APIRouter()
    verified = Depends(provider.verify)
    answers = {k: v for k, v in (ANSWERS | getattr(provider, "ANSWERS", {})).items() if v}

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

    async def serve(scope: Scope, receiving: Receive, send: Send) -> None:
        """Do what FastAPI would, which takes longer to solve dependencies than this to verify."""
        request = Request(scope, receiving, send)
        async with asyncio.timeout(settings.body_timeout_seconds):
            event = await provider.verify(request)
        response = await receive(request, event)
        await response(scope, receiving, send)

    routes.routes[0].app = serve  # type: ignore[attr-defined]
    return routes


async def refuse(request: Request, error: Exception) -> Response:
    """Answer a request that is no event. Why, an impostor is not told: see log and counter."""
    if isinstance(error, HTTPException):
        status, detail = error.status_code, error.detail
        reason = HTTPStatus(status).phrase  # of 413 or 422
    else:
        status, detail = next(REFUSALS[kind] for kind in type(error).mro() if kind in REFUSALS)
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
RECEIVED = {"application/json": {"example": {"received": True}}}
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The event is kept, now or since before.", "content": RECEIVED},
    400: {"description": "Authentic, but not JSON, or without an id or a type."},
    401: {"description": "The signature is missing, malformed, wrong, stale or from the future."},
    408: {"description": "The body did not arrive in time."},
    413: {"description": "The body is too large."},
    503: {"description": "The database is out of reach: try again after Retry-After seconds."},
}
