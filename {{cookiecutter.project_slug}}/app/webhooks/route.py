"""The route of a webhook: read, verify, store, acknowledge. Processing comes after the answer."""

import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from opentelemetry import metrics

from app.events import Delivery
from app.inbox.group_commit import StoreUnavailable
from app.inbox.inbox import Added, Inbox
from app.inbox.retention import pruning
from app.processing.dispatcher import dispatching
from app.settings import settings
from app.webhooks.endpoint import Endpoint, Endpoints, by_name, nobody
from app.webhooks.refusals import Refused
from app.webhooks.verifier import Answer, Verifier

logger = logging.getLogger(__name__)
meter = metrics.get_meter(__name__)
received = meter.create_counter("webhooks.received", description="acknowledged deliveries")
refused = meter.create_counter("webhooks.refused", description="refused deliveries, by reason")


def webhook_router(endpoints: Sequence[Endpoint]) -> APIRouter:
    """Return a router with a route for each endpoint, and a lifespan that processes the events.

    `application.include_router(webhook_router(endpoints))` is all that an application needs.

    Raises:
        SystemExit: an endpoint cannot be used; the line says why.
    """
    named = by_name(endpoints)
    router = APIRouter(lifespan=_lifespan(named), route_class=WebhookRoute, tags=["webhooks"])
    for endpoint in endpoints:
        _check(endpoint)
        if endpoint.verify is not nobody:
            _add_route(router, endpoint)
    return router


def _add_route(router: APIRouter, endpoint: Endpoint) -> None:
    verified = Annotated[Delivery, Depends(endpoint.verify)]

    @router.post(
        f"/webhooks/{endpoint.name}",
        name=endpoint.name,
        dependencies=endpoint.dependencies,
        responses=_answers(endpoint),
    )
    async def receive(request: Request, delivery: verified) -> Response:
        """Acknowledge an event once it is committed, new or not."""
        inbox = started_inbox(request)
        try:
            added = await inbox.add(endpoint.name, delivery)
        except StoreUnavailable as error:
            logger.error("%s %s: not acknowledged: %s", endpoint.name, delivery.id, error)
            raise TryAgain from None
        if differs(added, endpoint):
            logger.warning("%s %s: %s", endpoint.name, delivery.id, added.value)
        received.add(1, {"endpoint": endpoint.name, "duplicate": added is not Added.NEW})
        return acknowledgement(endpoint)

    @router.post(f"/webhooks/{endpoint.name}/", include_in_schema=False)
    async def refuse_trailing_slash() -> None:
        """Answer 404. FastAPI would redirect, and senders take a redirect for a failure."""
        raise HTTPException(404)


def acknowledgement(endpoint: Endpoint) -> Response:
    """Return the answer to an event that is stored."""
    if getattr(endpoint.verify, "empty_answer", False):
        return Response()
    return JSONResponse({"received": True})


def started_inbox(request: Request) -> Inbox:
    """Return the inbox of this process.

    Raises:
        TryAgain: it was not started.
    """
    inbox: Inbox | None = getattr(request.state, "inbox", None)
    if inbox is None:
        logger.error(
            "the lifespan of the webhooks' router has not run, as in an application that is"
            " mounted: use application.include_router(webhook_router(endpoints))"
        )
        raise TryAgain
    return inbox


class TryAgain(HTTPException):
    """503: the event was not stored. Senders repeat what is answered like this."""

    def __init__(self) -> None:
        super().__init__(503, "try again later", {"Retry-After": "10"})


class WebhookRoute(APIRoute):
    """A route that logs and counts its refusals, and answers as a verifier says.

    See https://fastapi.tiangolo.com/how-to/custom-request-and-route/.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the function that answers a request."""
        answer = super().get_route_handler()

        async def answer_or_refuse(request: Request) -> Response:
            try:
                return await answer(request)
            except Answer as instead:
                return instead.response
            except Refused as refusal:
                refused.add(1, {"endpoint": self.name, "reason": refusal.reason})
                # Notes help to find a refused event at its sender: an id, the body's SHA-256.
                why = "; ".join([refusal.reason, *getattr(refusal, "__notes__", [])])
                logger.warning("%s: refused with %d: %s", self.name, refusal.status_code, why)
                raise

        return answer_or_refuse


def differs(added: Added, endpoint: Endpoint) -> bool:
    """Tell whether a duplicate may really be another event, under an id that is not unique."""
    if added is Added.OTHER_BODY:
        return not getattr(endpoint.verify, "body_may_vary", False)
    return added is Added.OTHER_TYPE


def _check(endpoint: Endpoint) -> None:
    verifier = endpoint.verify
    if not isinstance(verifier, Verifier):
        return
    if verifier.warning:
        logger.warning("/webhooks/%s: %s", endpoint.name, verifier.warning)
    problem = verifier.problem()
    if problem and settings.environment == "production":
        raise SystemExit(problem)
    if problem:
        logger.warning("%s", problem)


def _answers(endpoint: Endpoint) -> dict[int | str, dict[str, Any]]:
    """Return what `/docs` says about the answers of an endpoint."""
    if getattr(endpoint.verify, "empty_answer", False):
        return ANSWERS | {200: {"description": "The event is stored. There is no body."}}
    if getattr(endpoint.verify, "model", None) is None:
        return ANSWERS
    others = {status: answer for status, answer in ANSWERS.items() if status not in (400, 401)}
    return others | {422: {"description": "The body is not JSON, or does not fit the model."}}


def _lifespan(endpoints: Endpoints) -> Callable[[FastAPI], Any]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Inbox]]:
        with _only_router(app, endpoints), pruning():
            inbox = Inbox(endpoints)
            try:
                await inbox.open()
                async with dispatching(inbox, endpoints):
                    yield {"inbox": inbox}
            finally:
                await inbox.close()

    return lifespan


@contextmanager
def _only_router(app: FastAPI, endpoints: Endpoints) -> Iterator[None]:
    """Refuse a second router with the same paths: the first would bypass a guard of the second."""
    running: frozenset[str] = getattr(app.state, "webhooks", frozenset())
    for name in running & endpoints.keys():
        raise SystemExit(f"/webhooks/{name} is there twice: include webhook_router(…) only once")
    app.state.webhooks = running | endpoints.keys()
    try:
        yield
    finally:
        app.state.webhooks = running


RECEIVED = {"application/json": {"example": {"received": True}}}
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The event is stored, now or since before.", "content": RECEIVED},
    400: {"description": "Authentic, but not JSON, or without an id or a type."},
    401: {"description": "The signature is missing, malformed, wrong, stale or from the future."},
    408: {"description": "The body did not arrive in time."},
    413: {"description": "The body is too large."},
    415: {"description": "The body is compressed."},
    503: {"description": "The event could not be stored: try again after Retry-After seconds."},
}
