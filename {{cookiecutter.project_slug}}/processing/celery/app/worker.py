"""The worker: `celery -A app.worker worker`.

Handlers run here. Add tasks of your own with `@celery.task`, as in any Celery application.
"""

from app.endpoints import endpoints
from app.processing.worker import make_worker
from app.webhooks.endpoint import check_handlers

check_handlers(endpoints)

celery = make_worker(endpoints)
