"""What is measured: the template, and what people would use instead."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

SQLITE, POSTGRESQL = "SQLite", "PostgreSQL"
REDIS, CAREFUL_REDIS, RABBITMQ = "Redis", "Redis with appendfsync always", "RabbitMQ"

STRIPE_PATH = "/webhooks/stripe"

# What all but dj-stripe serve with. The template installs the same.
WEB = (
    "aiosqlite",
    "fastapi",
    "httptools",
    "psycopg[binary]",
    "sqlalchemy[asyncio]",
    "uvicorn",
    "uvloop",
)
WEB_SHOWN = ("fastapi", "psycopg", "sqlalchemy", "uvicorn")


@dataclass(frozen=True)
class Program:
    """A process: its command, and a pattern of what it prints when it is at work."""

    name: str
    command: str
    ready: str


@dataclass(frozen=True)
class Setup:
    """How a service is made, and which processes it has. The first one serves.

    Args:
        packages: What is installed; the template has a list of its own.
        shown: Packages whose versions are noted, beside WEB_SHOWN.
        prepare: Commands to carry out once on an empty database.
        keeps: Whether it writes to a database at all.
        processing: The template's answer; empty for all others.
        handler: The source of the template's handler, if it is not the generated one.
        edits: Changes to a generated project: the file, the old text, and the new text.
    """

    name: str
    programs: tuple[Program, ...]
    databases: tuple[str, ...] = (SQLITE, POSTGRESQL)
    broker: str = ""
    packages: tuple[str, ...] = WEB
    shown: tuple[str, ...] = ()
    prepare: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, hash=False)
    path: str = STRIPE_PATH
    keeps: bool = True
    processing: str = ""
    handler: str = ""
    edits: tuple[tuple[str, str, str], ...] = ()
    note: str = ""

    def __str__(self) -> str:
        return self.name


def web(module: str, port: str = "port", name: str = "web") -> Program:
    command = f"{{bin}}/python -m uvicorn {module}:app --port {{{port}}} --no-access-log"
    return Program(name, command, "Uvicorn running on")


def worker(command: str, ready: str) -> Program:
    return Program("worker", f"{{bin}}/{command}", ready)


# The table of the effects is there already.
MIGRATE = (
    "{bin}/python -m alembic --name engine upgrade head",
    "{bin}/python -m alembic stamp head",
)
TEMPLATE = Setup("this template", (web("app.main"),), processing="background", prepare=MIGRATE)
TEMPLATE_WORKERS = {
    "celery": worker("celery -A app.worker worker", r"\[queues\]"),
    "arq": worker("arq app.worker.WorkerSettings", "Starting worker for"),
}


def template(processing: str, broker: str) -> Setup:
    return Setup(
        f"this template, {processing}, {broker}",
        (web("app.main"), TEMPLATE_WORKERS[processing]),
        databases=(POSTGRESQL,),
        broker=broker,
        processing=processing,
        prepare=MIGRATE,
        shown=(processing,),
    )


TEMPLATES = (
    TEMPLATE,
    template("celery", REDIS),
    template("celery", RABBITMQ),
    template("arq", REDIS),
)

# To measure receiving alone, the handler sleeps, and leaves the processor to it.
SLEEPING_HANDLER = '''"""Sleep, and do nothing."""

import asyncio

from app.events import Event


async def handle(event: Event) -> None:
    """Sleep for longer than the measurement takes."""
    await asyncio.sleep(50)
'''
SLEEPING_TEMPLATE = replace(TEMPLATE, handler=SLEEPING_HANDLER)

SNIPPET = Setup("the snippet", (web("snippet"),))

DBOS_PACKAGES = (*WEB, "dbos[aiosqlite]")
DBOS_STEP = Setup("DBOS, a step", (web("with_dbos"),), packages=DBOS_PACKAGES, shown=("dbos",))
DBOS_TRANSACTION = Setup(
    "DBOS, a transaction",
    (web("with_dbos"),),
    databases=(POSTGRESQL,),
    packages=DBOS_PACKAGES,
    shown=("dbos",),
    environment={"DBOS_EFFECT": "transaction"},
    note="on PostgreSQL only, for on SQLite its threads wait for each other's lock until they fail",
)

PROCRASTINATE = Setup(
    "procrastinate",
    (
        web("with_procrastinate"),
        worker(
            "procrastinate --app=with_procrastinate.jobs worker --concurrency 16",
            "Starting worker on",
        ),
    ),
    databases=(POSTGRESQL,),
    packages=(*WEB, "procrastinate"),
    shown=("procrastinate",),
    prepare=("{bin}/procrastinate --app=with_procrastinate.jobs schema --apply",),
)

PGQUEUER = Setup(
    "PgQueuer",
    (web("with_pgqueuer"), worker("python {baselines}/with_pgqueuer.py", "the worker begins")),
    databases=(POSTGRESQL,),
    packages=(*WEB, "pgqueuer[asyncpg]"),
    shown=("pgqueuer", "asyncpg"),
    prepare=("{bin}/pgq --pg-dsn {url} install",),
)

HOOKRELAY_PACKAGES = (*WEB, "hookrelay[fastapi,postgres,sqlite]")
HOOKRELAY_SQLITE = Setup(
    "hookrelay",
    (web("with_hookrelay"),),
    databases=(SQLITE,),
    packages=HOOKRELAY_PACKAGES,
    shown=("hookrelay",),
    note="its worker is a task of the web process, as its SQLite backend wants",
)
HOOKRELAY_POSTGRESQL = Setup(
    "hookrelay",
    (
        web("with_hookrelay"),
        worker("python {baselines}/with_hookrelay.py", "the worker begins"),
    ),
    databases=(POSTGRESQL,),
    packages=HOOKRELAY_PACKAGES,
    shown=("hookrelay", "asyncpg"),
)

HOOKSPOOL = Setup(
    "hookspool",
    (
        Program("intake", "{bin}/hookspool intake", "listening"),
        Program("dispatcher", "{bin}/hookspool dispatch", "dispatcher started"),
        web("with_hookspool", "second_port", "destination"),
    ),
    packages=(*WEB, "hookspool"),
    shown=("hookspool",),
    prepare=(
        "{bin}/python {baselines}/with_hookspool.py {port} {second_port}",
        "{bin}/hookspool migrate",
    ),
    environment={"HOOKSPOOL_HOME": "{folder}"},
    path="/hooks/stripe",
    note="its spool is a SQLite file of its own, the effect is in the database that is named",
)


def arq(name: str, broker: str, careful: str = "") -> Setup:
    return Setup(
        name,
        (web("with_arq"), worker("arq with_arq.WorkerSettings", "Starting worker for")),
        databases=(POSTGRESQL,),
        broker=broker,
        packages=(*WEB, "arq"),
        shown=("arq", "redis"),
        environment={"CAREFUL": careful},
    )


def celery(name: str, broker: str, careful: str = "") -> Setup:
    return Setup(
        name,
        (web("with_celery"), worker("celery -A with_celery.celery worker", "the worker begins")),
        databases=(POSTGRESQL,),
        broker=broker,
        packages=(*WEB, "celery[redis]"),
        shown=("celery",),
        environment={"CAREFUL": careful},
    )


ARQ = arq("arq alone, Redis", REDIS)
CELERY = celery("Celery alone, Redis", REDIS)
CELERY_RABBITMQ = celery("Celery alone, RabbitMQ", RABBITMQ)
CAREFUL = (
    arq("arq alone, careful", CAREFUL_REDIS, careful="1"),
    celery("Celery alone, careful", CAREFUL_REDIS, careful="1"),
)

PEERS = (
    SNIPPET,
    DBOS_STEP,
    DBOS_TRANSACTION,
    PROCRASTINATE,
    PGQUEUER,
    HOOKRELAY_SQLITE,
    HOOKRELAY_POSTGRESQL,
    HOOKSPOOL,
    ARQ,
    CELERY,
    CELERY_RABBITMQ,
    *CAREFUL,
)
