"""A Celery application whose worker handles the engine's own endpoint."""

from app.processing.worker import make_worker
from tests.engine.service import endpoint

celery = make_worker([endpoint()])
