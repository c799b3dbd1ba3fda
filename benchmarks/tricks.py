"""What each trick gains: the template's usual path, beside the same path without the trick."""

from dataclasses import replace
from functools import partial

from benchmarks.cores import take_cores
from benchmarks.effects import RATE, chosen, measure, named
from benchmarks.homes import homes
from benchmarks.options import Options
from benchmarks.results import Results
from benchmarks.setups import POSTGRESQL, SQLITE, TEMPLATE, Setup

CONNECTIONS = "app/inbox/connections.py"
ENGINES = "app/inbox/engines.py"
DRIVER = "app/inbox/sqlite_driver.py"

PRAGMAS = """
def with_pragmas(*arguments: Any, **options: Any) -> AsyncEngine:
    engine = asyncio_engine(*arguments, **options)

    def configure(connection: DBAPIConnection, _: object) -> None:
        connection.cursor().execute("PRAGMA synchronous = NORMAL")
        connection.cursor().execute("PRAGMA wal_autocheckpoint = 0")

    sa.event.listen(engine.sync_engine, "connect", configure)
    return engine


def _postgresql_options() -> dict[str, Any]:
"""


def without(trick: str, *edits: tuple[str, str, str], databases: tuple[str, ...]) -> Setup:
    return replace(TEMPLATE, name=trick, edits=edits, databases=databases)


PLAIN = (
    without(
        "with SQLAlchemy's pool",
        (
            CONNECTIONS,
            "reusable = sync_connection.get_execution_options() == options",
            "reusable = False",
        ),
        (
            ENGINES,
            "        pool_size=settings.concurrency,\n",
            "        pool_size=settings.concurrency,\n        pool_pre_ping=True,\n",
        ),
        databases=(SQLITE, POSTGRESQL),
    ),
    without(
        "with a BEGIN of its own",
        (
            CONNECTIONS,
            'cursor = await driver.execute(f"{BEGIN}; {opening}".encode())',
            "await driver.execute(BEGIN)\n    cursor = await driver.execute(opening.encode())",
        ),
        databases=(POSTGRESQL,),
    ),
    without(
        "with aiosqlite",
        (
            CONNECTIONS,
            'return cast("sqlite_driver.Connection", driver).begin(opening)',
            "return (await driver.execute(opening)).rowcount",
        ),
        (
            ENGINES,
            'return asyncio_engine(\n            url.set(drivername="sqlite+aiosqlite")',
            'return with_pragmas(\n            url.set(drivername="sqlite+aiosqlite")',
        ),
        (
            ENGINES,
            '{"async_creator_fn": Connection}',
            '{"isolation_level": "IMMEDIATE", "timeout": 0}',
        ),
        (ENGINES, "def _postgresql_options() -> dict[str, Any]:\n", PRAGMAS.lstrip()),
        databases=(SQLITE,),
    ),
    without(
        "with a batch between any two transactions of handlers",
        ("app/inbox/write_lock.py", "TURN_SECONDS = 0.005", "TURN_SECONDS = 0.0"),
        databases=(SQLITE,),
    ),
    without(
        "with an fsync for handlers' commits",
        (DRIVER, "PRAGMA synchronous = NORMAL", "PRAGMA synchronous = FULL"),
        ("app/inbox/statements.py", '"SET LOCAL synchronous_commit = off;"', '""'),
        databases=(SQLITE, POSTGRESQL),
    ),
)


def run(options: Options) -> Results:
    results = Results("tricks")
    subjects = chosen(options, (TEMPLATE, *PLAIN))
    with homes(take_cores()) as places:
        for number in range(1, options.rounds + 1):
            for setup, kind in subjects:
                take = partial(measure, places, setup, kind, options.events)
                results.measure(named(setup, kind), number, take)
    for setup, kind in subjects:
        if setup is not TEMPLATE:
            results.compare(RATE, named(setup, kind), named(TEMPLATE, kind))
    return results
