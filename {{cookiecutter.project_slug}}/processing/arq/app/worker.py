"""The worker: `arq app.worker.WorkerSettings`. Handlers run here."""

from app.endpoints import endpoints
from app.processing.worker import make_worker
from app.webhooks.endpoint import check_handlers

check_handlers(endpoints)

WorkerSettings = make_worker(endpoints)
