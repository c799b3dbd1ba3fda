"""What FastAPI's documentation tells people to do works here as anywhere."""

import asyncio
import gc
import logging
import signal
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx2
import pytest
import sqlalchemy as sa
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient
from pydantic import BaseModel
from starlette.exceptions import HTTPException as StarletteHTTPException

from app.events import Delivery, Event, parse_json
from app.inbox.table import webhook_events
from app.processing.attempt import attempt
from app.settings import Secrets, settings
from app.webhooks.body import Payload
from app.webhooks.endpoint import Endpoint, by_name
from app.webhooks.refusals import InvalidSignature
from app.webhooks.route import webhook_router
from tests.delivery import Database, Service, running
from tests.engine.service import (
    URL,
    SharedSecret,
    application,
    body,
    delivery,
    endpoint,
    handle,
    signed,
)
from tests.engine.store import stored, until

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("database")]

CallNext = Callable[[Request], Awaitable[Response]]


async def post(service: Service, path: str = URL) -> httpx2.Response:
    """Post a signed event."""
    return await service.client.post(path, content=body(), headers=signed(body()))


def deny() -> None:
    """Refuse everybody: a dependency."""
    raise HTTPException(403)


def the_application_is_guarded() -> FastAPI:
    return application(dependencies=[Depends(deny)])


def the_inclusion_is_guarded() -> FastAPI:
    app = FastAPI()
    app.include_router(webhook_router([endpoint()]), dependencies=[Depends(deny)])
    return app


def the_endpoint_is_guarded() -> FastAPI:
    return application(
        Endpoint("test", verify=SharedSecret(), dependencies=[Depends(deny)], handler=handle)
    )


def a_router_around_it_is_guarded() -> FastAPI:
    router = APIRouter(dependencies=[Depends(deny)])
    router.include_router(webhook_router([endpoint()]))
    app = FastAPI()
    app.include_router(router)
    return app


def the_verifier_is_guarded() -> FastAPI:
    verified = Annotated[Delivery, Depends(SharedSecret())]

    async def verify(delivery: verified, denied: Annotated[None, Depends(deny)]) -> Delivery:
        return delivery

    return application(Endpoint("test", verify=verify, handler=handle))


@pytest.mark.parametrize(
    "build",
    [
        the_application_is_guarded,
        the_inclusion_is_guarded,
        the_endpoint_is_guarded,
        a_router_around_it_is_guarded,
        the_verifier_is_guarded,
    ],
)
async def test_a_guard_runs_wherever_it_is_added(
    build: Callable[[], FastAPI], database: Database
) -> None:
    async with running(build()) as service:
        answer = await post(service)

    assert answer.status_code == 403
    assert await database.rows(sa.select(webhook_events)) == []


async def test_a_router_that_is_included_twice_refuses_the_start() -> None:
    """The first one would bypass the guard of the second."""
    app = application()
    app.include_router(webhook_router([endpoint()]), dependencies=[Depends(deny)])
    threads = set(threading.enumerate())

    with pytest.raises(SystemExit, match="/webhooks/test is there twice"):
        async with running(app):
            pytest.fail("it started")
    await until(lambda: set(threading.enumerate()) <= threads)  # what had begun has ended


async def test_a_verifier_can_be_overridden() -> None:
    one = endpoint()
    app = application(one)
    app.dependency_overrides[one.verify] = lambda: delivery("evt_fake")

    async with running(app) as service:
        assert (await service.client.post(URL, content=b"anything")).status_code == 200


async def test_a_plain_function_with_parameters_of_its_own_can_be_the_verifier(
    database: Database,
) -> None:
    async def verify(
        payload: Payload, tenant: str, x_token: Annotated[str, Header()] = ""
    ) -> Delivery:
        if x_token != "a-shared-token":
            raise InvalidSignature("mismatch")
        return Delivery(f"{tenant}_1", "ping", payload, parse_json(payload))

    app = application(Endpoint("test", verify=verify, handler=handle))
    token = {"X-Token": "a-shared-token"}
    async with running(app) as service:
        right = await service.client.post(f"{URL}?tenant=acme", content=b"1", headers=token)
        wrong = await service.client.post(f"{URL}?tenant=acme", content=b"1")
        incomplete = await service.client.post(URL, content=b"1", headers=token)

    assert [each.status_code for each in (right, wrong, incomplete)] == [200, 401, 422]
    assert (await stored(database, "acme_1")).payload == b"1"


async def test_a_pydantic_model_can_be_the_verifier(database: Database) -> None:
    class Order(BaseModel):
        number: int

    async def verify(payload: Payload, order: Order) -> Delivery:
        return Delivery(str(order.number), "order", payload, order.model_dump())

    app = application(Endpoint("test", verify=verify, handler=handle))
    async with running(app) as service:
        assert (await service.client.post(URL, json={"number": 7})).status_code == 200
        assert (await service.client.post(URL, json={"number": "x"})).status_code == 422
    assert await stored(database, "7")


async def test_the_verifier_guards_any_other_route_too() -> None:
    app = FastAPI()

    @app.post("/own")
    async def own(delivery: Annotated[Delivery, Depends(SharedSecret())]) -> str:
        return delivery.id

    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        accepted = await client.post("/own", content=body(), headers=signed(body()))
        refused = await client.post("/own", content=body())

    assert (accepted.json(), refused.status_code) == ("evt_1", 401)


@pytest.mark.parametrize("first", [True, False])
async def test_a_dependency_may_read_the_body_too(database: Database, first: bool) -> None:
    seen = []

    async def read(request: Request) -> None:
        seen.append(await request.body())

    async def verify_last(
        read: Annotated[None, Depends(read)], delivery: Annotated[Delivery, Depends(SharedSecret())]
    ) -> Delivery:
        return delivery

    async def verify_first(
        delivery: Annotated[Delivery, Depends(SharedSecret())], read: Annotated[None, Depends(read)]
    ) -> Delivery:
        return delivery

    verify = verify_last if first else verify_first
    async with running(application(Endpoint("test", verify=verify, handler=handle))) as service:
        assert (await post(service)).status_code == 200

    assert seen == [body()]
    assert (await stored(database)).payload == body()


async def test_under_a_prefix_everything_is_as_without(monkeypatch: pytest.MonkeyPatch) -> None:
    app = FastAPI()
    app.include_router(webhook_router([endpoint()]), prefix="/api/v1")

    async def begin() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(1)

    async with running(app) as service:
        assert (await post(service, f"/api/v1{URL}")).status_code == 200
        assert (await post(service, f"/api/v1{URL}/")).status_code == 404
        assert (await post(service)).status_code == 404
        monkeypatch.setattr(settings, "body_timeout_seconds", 0.05)
        slow = await service.client.post(f"/api/v1{URL}", content=begin())

    assert slow.status_code == 408


async def test_a_middleware_sees_request_and_answer() -> None:
    app = application()
    seen = []

    @app.middleware("http")
    async def watch(request: Request, call_next: CallNext) -> Response:
        seen.append(await request.body())
        answer = await call_next(request)
        answer.headers["X-Seen"] = "yes"
        return answer

    async with running(app) as service:
        answer = await post(service)

    assert (answer.status_code, answer.headers["x-seen"], seen) == (200, "yes", [body()])


async def test_an_exception_handler_of_ones_own_makes_the_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def answer(request: Request, error: StarletteHTTPException) -> JSONResponse:
        return JSONResponse({"problem": error.detail}, error.status_code, error.headers)

    app = application(exception_handlers={StarletteHTTPException: answer})
    async with running(app) as service:
        refused = await service.client.post(URL, content=body())

    assert (refused.status_code, refused.json()) == (401, {"problem": "invalid signature"})
    assert "test: refused with 401: missing" in caplog.text


async def test_one_refusal_can_have_an_exception_handler_of_its_own() -> None:
    app = application()

    @app.exception_handler(InvalidSignature)
    async def hide(request: Request, error: InvalidSignature) -> Response:
        return Response(status_code=404)

    async with running(app) as service:
        assert (await service.client.post(URL, content=body())).status_code == 404


async def test_routes_of_ones_own_behave_as_anywhere(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(settings, "body_timeout_seconds", 0.05)
    app = application()

    @app.get("/timeout")
    async def time_out() -> None:
        raise TimeoutError

    @app.get("/own422")
    async def refuse() -> None:
        raise HTTPException(422, "my own detail")

    @app.post("/number")
    async def number(number: int) -> int:
        return number

    @app.post("/slow")
    async def read_slowly(request: Request) -> int:
        return len(await request.body())

    async def slow_body() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(2 * settings.body_timeout_seconds)
        yield b"}" * settings.max_body_bytes

    async with running(app) as service:
        with pytest.raises(TimeoutError):  # a server makes a 500 of it
            await service.client.get("/timeout")
        refused = await service.client.get("/own422")
        invalid = await service.client.post("/number", params={"number": "x"})
        slow = await service.client.post("/slow", content=slow_body())

    assert (refused.status_code, refused.json()) == (422, {"detail": "my own detail"})
    assert "connection" not in refused.headers
    assert invalid.json()["detail"][0]["loc"] == ["query", "number"]
    assert slow.json() == settings.max_body_bytes + 1
    assert "refused" not in caplog.text


async def test_a_lifespan_of_ones_own_runs_beside_that_of_the_webhooks() -> None:
    events = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        events.append("begin")
        yield {"mine": "my own state"}
        events.append("end")

    app = application(lifespan=lifespan)

    @app.get("/state")
    async def state(request: Request) -> str:
        return str(request.state.mine)

    async with running(app) as service:
        assert (await post(service)).status_code == 200
        assert (await service.client.get("/state")).json() == "my own state"
    assert events == ["begin", "end"]


def test_mounted_it_asks_to_try_again_and_says_what_to_do_instead(
    caplog: pytest.LogCaptureFixture,
) -> None:
    outer = FastAPI()
    outer.mount("/hooks", application())

    with TestClient(outer) as client:
        answer = client.post(f"/hooks{URL}", content=body(), headers=signed(body()))

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
    [line] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "include_router(webhook_router(endpoints))" in line.getMessage()


def test_a_script_can_enter_the_test_client_again_and_again_and_goes_on() -> None:
    """Nothing in the process is changed, and nothing is left behind that could end it."""

    def process_wide() -> list[object]:
        handlers = [signal.getsignal(number) for number in signal.valid_signals()]
        logging_of_root = logging.getLogger().handlers[:]
        collector = [gc.isenabled(), gc.get_threshold(), gc.get_freeze_count()]
        return [handlers, logging_of_root, collector, sys.getswitchinterval()]

    before = process_wide()
    threads = set(threading.enumerate())  # of earlier tests: some may end meanwhile
    app = application()
    for _ in range(2):
        with TestClient(app) as client:
            assert client.post(URL, content=body(), headers=signed(body())).status_code == 200

    for thread in set(threading.enumerate()) - threads:
        thread.join(timeout=1)
    assert process_wide() == before
    assert set(threading.enumerate()) <= threads


async def test_two_endpoints_of_one_scheme_have_their_own_secrets_paths_and_handlers(
    database: Database,
) -> None:
    handled = []

    async def handle_platform(event: Event) -> None:
        handled.append(("platform", event.endpoint, event.id))

    async def handle_connect(event: Event) -> None:
        handled.append(("connect", event.endpoint, event.id))

    secrets = {name: Secrets(name.upper(), (f"{name}-secret",), "") for name in ("p", "c")}
    endpoints = [
        Endpoint("platform", verify=SharedSecret(secrets["p"]), handler=handle_platform),
        Endpoint("connect", verify=SharedSecret(secrets["c"]), handler=handle_connect),
    ]
    async with running(application(*endpoints)) as service:
        statuses = {}
        for path in ("/webhooks/platform", "/webhooks/connect"):
            for secret in ("p-secret", "c-secret"):
                answer = await service.client.post(
                    path, content=body(), headers=signed(body(), secret)
                )
                statuses[path, secret] = answer.status_code
        for claim in await service.inbox.claim_due(10):
            await attempt(service.inbox, by_name(endpoints), claim)

    assert statuses == {
        ("/webhooks/platform", "p-secret"): 200,
        ("/webhooks/platform", "c-secret"): 401,
        ("/webhooks/connect", "p-secret"): 401,
        ("/webhooks/connect", "c-secret"): 200,
    }
    assert sorted(handled) == [("connect", "connect", "evt_1"), ("platform", "platform", "evt_1")]


async def test_the_openapi_document_names_every_answer() -> None:
    paths = application().openapi()["paths"]

    assert list(paths) == [URL]
    assert set(paths[URL]["post"]["responses"]) >= {"200", "400", "401", "408", "413", "415", "503"}
