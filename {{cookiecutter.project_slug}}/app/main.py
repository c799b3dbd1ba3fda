"""The application: `uvicorn app.main:app`.

Add routes, dependencies, middleware and exception handlers as in any FastAPI application.
"""

from fastapi import FastAPI

from app.endpoints import endpoints
from app.health import health_router
from app.inspector.pages import inspector_router
from app.logs import configure_logging
from app.samples import add_examples
from app.settings import settings
from app.webhooks.endpoint import check_handlers
from app.webhooks.route import webhook_router

configure_logging()
check_handlers(endpoints)
development = settings.environment == "development"

app = FastAPI(
    title="Webhooks",
    redirect_slashes=False,  # senders take a redirect for a failure
    openapi_url="/openapi.json" if development else None,
)
app.include_router(webhook_router(endpoints))
app.include_router(health_router())
app.include_router(inspector_router())

if development:
    add_examples(app, endpoints)
