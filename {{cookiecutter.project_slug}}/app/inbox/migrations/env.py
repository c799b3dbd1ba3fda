"""Alembic's environment for the tables of the engine: `uv run alembic --name engine current`."""

from typing import Any

from alembic import context

import app.inbox.table  # noqa: F401  the engine's tables
from app.database import is_sqlite, metadata, url
from app.logs import configure_logging
from app.schema import ENGINE, is_of_engine, migrating

configure_logging()


def include_object(item: object, name: str | None, kind: str, *_: Any) -> bool:
    """Leave out the tables that are not the engine's."""
    return kind != "table" or is_of_engine(name or "")


options: dict[str, Any] = {
    "target_metadata": metadata,
    "include_object": include_object,
    "version_table": ENGINE.version_table,
    "transactional_ddl": True,
    # On SQLite, one transaction holds the write lock for all migrations.
    "transaction_per_migration": not is_sqlite,
}

if context.is_offline_mode():
    context.configure(url=url, literal_binds=True, **options)
    with context.begin_transaction():
        context.run_migrations()
else:
    with migrating() as connection:
        context.configure(connection=connection, **options)
        with context.begin_transaction():
            context.run_migrations()
