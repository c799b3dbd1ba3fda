"""The schema: which revisions the database has, which ones this code knows, and the way there.

There are two histories of revisions, one for the tables of the engine and one for yours. Each has
a table in the database that names the revision which was applied last. Alembic applies revisions.
It takes long to import, so nothing here imports it before there is something to apply.
"""

import ast
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from app.database import is_sqlite
from app.inbox.engines import create_engine, is_temporary
from app.settings import settings

ROOT = Path(__file__).parents[1]
COMMAND = "python -m app migrate"
NEVER_STARTED = (
    "DATABASE_URL names a database without the table of events:"
    f" run {COMMAND}, or go to the folder in which the service runs"
)
ENGINE_PREFIX = "webhook_"
SCHEMA_LOCK = 453857734520  # any number, the same in all processes

LOCK_TIMEOUT_MS = 1000  # statements of others wait behind one that waits for a lock
LOCK_ATTEMPTS = 60
LOCK_PAUSE_SECONDS = 1
TURN_POLL_SECONDS = 0.1
LOCK_NOT_AVAILABLE = "55P03"
INSUFFICIENT_PRIVILEGE = "42501"

logger = logging.getLogger(__name__)
_parsing = threading.Lock()  # Python 3.11 cannot do it in two threads at the same time
_in_this_process = threading.Lock()  # Alembic keeps what it is doing in global variables


class SchemaUnusable(Exception):
    """This code cannot work with the schema as it is: the message says what to do."""


@dataclass(frozen=True)
class History:
    """Revisions that build on each other.

    Args:
        name: What people call it.
        folder: Where its `env.py` and its `versions` are.
        version_table: The table that names the revision which was applied last.
        numbered: Whether its revisions are numbers. Then it is known how far they are apart.
    """

    name: str
    folder: Path
    version_table: str
    numbered: bool = False


ENGINE = History("engine", ROOT / "app/inbox/migrations", "webhook_version", numbered=True)
YOURS = History("yours", ROOT / "migrations", "alembic_version")
HISTORIES = (ENGINE, YOURS)  # your tables may refer to those of the engine


def is_of_engine(table: str) -> bool:
    """Tell the tables of the engine, by their name, from yours."""
    return table.startswith(ENGINE_PREFIX)


def prepare() -> None:
    """Make sure that this code can work with the schema. In development, migrate it.

    Raises:
        SchemaUnusable: it cannot; the message says what to do.
        DBAPIError: the database is away, or refuses something.
    """
    engine = create_engine()
    try:
        with engine.connect() as connection:
            outdated = [each for each in HISTORIES if is_outdated(connection, each)]
    finally:
        engine.dispose()
    if not outdated:
        return
    if settings.environment == "production":
        names = " and ".join(history.version_table for history in outdated)
        raise SchemaUnusable(f"the schema is older than this code ({names}): run {COMMAND}")
    try:
        migrate()
    except DBAPIError as error:
        state = getattr(error.orig, "sqlstate", None)
        if is_temporary(error) or state == INSUFFICIENT_PRIVILEGE:
            raise
        reason = str(error.orig).strip().partition("\n")[0]
        raise SchemaUnusable(f"a revision failed: {reason}: see {COMMAND}") from error


@dataclass(frozen=True)
class Difference:
    """How the schema of the database differs from that of this code.

    Args:
        is_older: It lacks revisions that this code knows.
        newer: A line that says so, if it has revisions that this code does not know: others were
            deployed before this code was started, or it was rolled back.
    """

    is_older: bool = False
    newer: str = ""


def compare(connection: sa.Connection, history: History) -> Difference:
    """Compare the schema of the database with that of this code.

    Raises:
        SchemaUnusable: it is newer by more than this code can work with.
    """
    known = known_revisions(history)
    heads = set(known) - {each for parents in known.values() for each in parents}
    applied = applied_revisions(connection, history)
    unknown = applied - set(known)
    if not unknown:
        return Difference(is_older=applied != heads)
    return Difference(newer=_check_newer(history, max(unknown), max(heads, default="")))


def _check_newer(history: History, applied: str, head: str) -> str:
    is_newer = f"the schema ({history.version_table} is {applied}) is newer than this code ({head})"
    if history.numbered and int(applied) > int(head) + 1:
        raise SchemaUnusable(f"{is_newer} by more than one revision: deploy newer code")
    return is_newer


def is_outdated(connection: sa.Connection, history: History) -> bool:
    """Tell whether the database lacks revisions that this code knows. Log if it is newer.

    Raises:
        SchemaUnusable: it is newer by more than this code can work with.
    """
    difference = compare(connection, history)
    if difference.newer:
        logger.warning("%s", difference.newer)
    return difference.is_older


def applied_revisions(connection: sa.Connection, history: History) -> set[str]:
    """Return what the database says was applied last: one revision, if there are no branches."""
    if not sa.inspect(connection).has_table(history.version_table):
        return set()
    versions = sa.table(history.version_table, sa.column("version_num", sa.Text))
    return set(connection.execute(sa.select(versions.c.version_num)).scalars())


def known_revisions(history: History) -> dict[str, set[str]]:
    """Return each revision of this code with those that it builds on."""
    known: dict[str, set[str]] = {}
    for file in history.folder.glob("versions/*.py"):
        with _parsing:
            module = ast.parse(file.read_bytes(), str(file))
        assigned = _assigned(module)
        if "revision" in assigned:
            parents = assigned.get("down_revision") or ()
            known[assigned["revision"]] = {parents} if isinstance(parents, str) else set(parents)
    return known


def _assigned(module: ast.Module) -> dict[str, Any]:
    """Return the two constants of a revision that say where it belongs."""
    assigned = {}
    for statement in module.body:
        match statement:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
            ) if name in ("revision", "down_revision"):
                assigned[name] = ast.literal_eval(value)
    return assigned


def migrate() -> None:
    """Apply all revisions that are missing. Any number of processes may do so at the same time.

    A database that is newer than this code stays as it is.

    Raises:
        SchemaUnusable: it is newer by more than this code can work with.
        DBAPIError: the database is away, or a revision failed.
    """
    with _in_this_process:
        for history in HISTORIES:
            engine = create_engine()
            with engine.connect() as connection:
                outdated = is_outdated(connection, history)
            engine.dispose()
            if outdated:
                _upgrade(history)


def _upgrade(history: History) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(history.folder).replace("%", "%%"))
    for attempts_left in reversed(range(LOCK_ATTEMPTS)):
        try:
            command.upgrade(config, "heads")
            return
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != LOCK_NOT_AVAILABLE or not attempts_left:
                raise
        logger.warning("somebody holds a table that a revision changes; trying again")
        time.sleep(LOCK_PAUSE_SECONDS)


@contextmanager
def migrating() -> Iterator[sa.Connection]:
    """Yield a connection to migrate with, while no other process migrates.

    On SQLite each of its transactions takes the write lock at once, and has it to the end. On
    PostgreSQL none waits long for a lock, because everybody else would have to wait behind it.
    """
    engine = create_engine()
    first = "BEGIN IMMEDIATE" if is_sqlite else f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}"
    sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(first))
    try:
        with nullcontext() if is_sqlite else _turn(engine), engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


@contextmanager
def _turn(engine: sa.Engine) -> Iterator[None]:
    """Hold PostgreSQL's lock on migrations.

    It belongs to a transaction of its own: revisions may commit in between, and a pooler such as
    PgBouncer may give each transaction another session. It is asked for again and again, because
    CREATE INDEX CONCURRENTLY waits for statements that began before it, also for one that waits.
    """
    # A statement with parameters would keep its snapshot, and such an index would wait for it, too.
    ask = f"SELECT pg_try_advisory_xact_lock({SCHEMA_LOCK})"
    with engine.connect() as connection:
        while not connection.exec_driver_sql(ask).scalar_one():
            connection.rollback()
            time.sleep(TURN_POLL_SECONDS)
        yield
