"""Yours: Alembic's environment for your tables: `uv run alembic --help`.

See https://alembic.sqlalchemy.org/en/latest/tutorial.html.
"""

from typing import Any

from alembic import context

import app.endpoints  # noqa: F401  its handlers import your tables: import others here
from app.database import is_sqlite, metadata, url
from app.logs import configure_logging
from app.schema import COMMAND, is_of_engine, migrating

configure_logging()


def include_object(
    item: object, name: str | None, kind: str, reflected: bool, compare_to: object | None
) -> bool:
    """Leave the tables of the engine alone: its own revisions make them."""
    if kind != "table" or name is None or not is_of_engine(name):
        return True
    if not reflected and compare_to is None:
        remedy = f"run {COMMAND}; if it is yours, name it otherwise: webhook_ is for the engine"
        raise SystemExit(f"there is no table {name}: {remedy}")
    return False


options: dict[str, Any] = {
    "target_metadata": metadata,
    "include_object": include_object,
    # SQLite can alter little: Alembic copies the table instead, where it has to.
    "render_as_batch": True,
    "transactional_ddl": True,
    # One transaction for all is what SQLite's write lock belongs to.
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
