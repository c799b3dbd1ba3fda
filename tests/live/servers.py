"""Servers that a test starts on free ports, and can stop, freeze and start again."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Self

import psycopg

from live.databases import Database
from live.processes import PATIENCE, Process, free_port, listens, wait_for
from live.shared import missing, redis, require_program

IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
# PostgreSQL and PgBouncer refuse to run as root.
AS_POSTGRES = ("runuser", "-u", "postgres", "--") if IS_ROOT else ()
RABBITMQ_FOLDERS = ("/usr/sbin", *map(str, Path("/usr/lib/rabbitmq/lib").glob("*/sbin")))
POSTGRESQL_FOLDERS = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)


class Server:
    """A server that a command runs, and that can be stopped and started again."""

    def __init__(self, folder: Path, command: str, port: int, url: str, **environment: str) -> None:
        self.port = port
        self.url = url
        self._folder = folder
        self._command = command
        self._environment = dict(os.environ) | environment

    def start(self) -> None:
        self._process = Process(self._folder, self._command, self._environment)
        self._process.wait_for_port(self.port)

    def stop(self) -> None:
        """Kill it; without persistence, that loses what it holds."""
        self._process.kill()
        wait_for(lambda: not listens(self.port), f"port {self.port} to be free")

    def freeze(self) -> None:
        """Suspend it: it keeps its connections and takes new ones, but answers none."""
        self._process.signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.signal_all(signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()


class Redis(Server):
    """A Redis without persistence."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        program = require_program("redis-server")
        (folder / "redis.conf").write_text(f'bind 127.0.0.1\nport {port}\nsave ""\n')
        super().__init__(folder, f"{program} redis.conf", port, f"redis://127.0.0.1:{port}")

    def demote(self) -> None:
        """Make it the replica of a server that is not there, as a failover does to the old one."""
        redis(self.url, "REPLICAOF 127.0.0.1 1")

    def promote(self) -> None:
        redis(self.url, "REPLICAOF NO ONE")


class SecureRedis(Server):
    """A Redis that takes only TLS connections."""

    def __init__(self, folder: Path, certificate: "Certificate") -> None:
        port = free_port()
        program = require_program("redis-server")
        (folder / "redis.conf").write_text(
            f"bind 127.0.0.1\nport 0\ntls-port {port}\ntls-auth-clients no\n"
            f"tls-cert-file {certificate.file}\ntls-key-file {certificate.key}\n"
            f'tls-ca-cert-file {certificate.file}\nsave ""\n'
        )
        super().__init__(folder, f"{program} redis.conf", port, f"rediss://localhost:{port}")


class Certificate:
    """A self-signed certificate for `localhost`, which no system trusts."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "certificate.pem"
        self.key = folder / "key.pem"
        openssl = require_program("openssl")
        names = "DNS:localhost,IP:127.0.0.1"
        command = (
            f"{openssl} req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
            f" -addext subjectAltName={names} -keyout {self.key} -out {self.file}"
        )
        subprocess.run(command.split(), check=True, capture_output=True)
        self.key.chmod(0o644)  # a server may run as somebody else


class RabbitMQ(Server):
    """A second node of the installed RabbitMQ; it starts in about four seconds.

    Args:
        consumer_timeout: Seconds after which it ends a channel whose message is not acknowledged.
        certificate: With one, it takes only TLS connections.
    """

    def __init__(
        self,
        folder: Path,
        consumer_timeout: int = 1800,
        certificate: "Certificate | None" = None,
    ) -> None:
        port = free_port()
        # The one in PATH may be a wrapper that switches to another user.
        program = require_program("rabbitmq-server", *RABBITMQ_FOLDERS)
        inner = [each for each in RABBITMQ_FOLDERS[1:] if Path(each, "rabbitmq-server").exists()]
        program = f"{inner[0]}/rabbitmq-server" if inner else program
        config = folder / "advanced.config"
        listeners = f"{{tcp_listeners, [{port}]}}"
        if certificate:
            listeners = (
                f"{{tcp_listeners, []}}, {{ssl_listeners, [{port}]}}, {{ssl_options,"
                f' [{{certfile, "{certificate.file}"}}, {{keyfile, "{certificate.key}"}}]}}'
            )
        config.write_text(
            f"[{{rabbit, [{listeners}, {{consumer_timeout, {consumer_timeout * 1000}}},"
            " {channel_tick_interval, 1000}]}]."
        )
        environment = {
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "HOME": str(folder),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(config),
            "RABBITMQ_CONFIG_FILE": str(folder / "none"),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_NODENAME": f"attacked{port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        }
        url = f"{'amqps' if certificate else 'amqp'}://guest:guest@localhost:{port}//"
        super().__init__(folder, program, port, url, **environment)


OWN_BROKERS: dict[str, Callable[[Path], Server]] = {"redis": Redis, "rabbitmq": RabbitMQ}


class PostgreSQL:
    """A PostgreSQL cluster for one test.

    Args:
        options: Settings of the server, by name.
    """

    def __init__(self, **options: str) -> None:
        self._program = require_program("pg_ctl", *POSTGRESQL_FOLDERS)
        self._folder = _folder_for_postgres()
        self._process = 0
        self.port = free_port()
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        self.database = Database(self.url)
        settings = {"port": str(self.port), "unix_socket_directories": str(self._folder)} | options
        self._options = " ".join(f"-c {name}={value}" for name, value in settings.items())

    def __enter__(self) -> Self:
        self._control("initdb", "-o", "--username=postgres --auth=trust --no-sync")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process:
            self.thaw()
            self.stop()
        shutil.rmtree(self._folder)

    def start(self) -> None:
        self._control("start", "-w", "-l", f"{self._folder}/log", "-o", self._options)
        self._process = int((self._folder / "data/postmaster.pid").read_text().split()[0])

    def stop(self) -> None:
        """Stop it at once: what it has not written is lost, as in a crash."""
        self._control("stop", "-m", "immediate")
        self._process = 0

    def freeze(self) -> None:
        """Suspend all of its processes: connections are accepted, but nothing is answered."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal_all(signal.SIGCONT)

    def set_read_only(self, value: bool) -> None:
        """Refuse or allow writes, and end all connections, as a failover does."""
        options = "-c default_transaction_read_only=off"
        with psycopg.connect(self.url, autocommit=True, options=options) as connection:
            state = b"on" if value else b"off"
            connection.execute(b"ALTER SYSTEM SET default_transaction_read_only = " + state)
            connection.execute("SELECT pg_reload_conf()")
            wait_for(lambda: self._is_read_only() == value, "the new setting to apply")
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )

    def check_indexes(self) -> None:
        """Fail if the table of events is damaged, or an index does not fit it."""
        with psycopg.connect(self.url) as connection:
            connection.execute("CREATE EXTENSION amcheck")
            connection.execute(
                "SELECT bt_index_check(indexrelid, true) FROM pg_index"
                " WHERE indrelid = 'webhook_events'::regclass"
            )

    def _signal_all(self, number: signal.Signals) -> None:
        os.kill(self._process, number)  # first, so that it starts no new children
        listed = ["pgrep", "-P", str(self._process)]
        children = subprocess.run(listed, capture_output=True, check=True, encoding="ascii").stdout
        for child in children.split():
            with suppress(ProcessLookupError):  # the server of a connection that has just ended
                os.kill(int(child), number)

    def _is_read_only(self) -> bool:
        return self.database.rows("SHOW default_transaction_read_only") == [("on",)]

    def _control(self, action: str, *arguments: str) -> None:
        command = [*AS_POSTGRES, self._program, action, "-D", f"{self._folder}/data", *arguments]
        # The server inherits these streams: with pipes, this would wait until the server ends.
        subprocess.run(
            command,
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE,
            check=True,
        )


class PgBouncer(Server):
    """A pooler in transaction mode: each transaction may get another session of the server.

    Args:
        database: The database that its sessions are connected to.
        sessions: How many sessions it has.
    """

    def __init__(self, folder: Path, database: Database, sessions: int) -> None:
        program = require_program("pgbouncer", "/usr/sbin")
        port = free_port()
        server = psycopg.conninfo.conninfo_to_dict(database.url)
        name = server["dbname"]
        target = " ".join(f"{key}={value}" for key, value in server.items())
        self._own_folder = _folder_for_postgres()
        config = self._own_folder / "pgbouncer.ini"
        config.write_text(
            f"[databases]\n{name} = {target}\n[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            f"auth_type = any\npool_mode = transaction\ndefault_pool_size = {sessions}\n"
            "max_client_conn = 200\n"
        )
        command = " ".join([*AS_POSTGRES, program, str(config)])
        url = f"postgresql://{server['user']}@127.0.0.1:{port}/{name}"
        super().__init__(folder, command, port, url)

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        shutil.rmtree(self._own_folder)


class SmallDisk:
    """A disk of a few megabytes that can be filled: a tmpfs, where mounting one is allowed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"
        self._sudo = () if IS_ROOT else ("sudo", "-n")

    def __enter__(self) -> Self:
        self.folder.mkdir()
        mount = [*self._sudo, "mount", "-t", "tmpfs", "-o", "size=16m,mode=777", "tmpfs"]
        if shutil.which(mount[0]) is None or not _succeeds([*mount, str(self.folder)]):
            missing("no disk can be filled: we may not mount a tmpfs")
        return self

    def __exit__(self, *_: object) -> None:
        assert _succeeds([*self._sudo, "umount", "--lazy", str(self.folder)])

    def fill(self) -> None:
        """Leave no room."""
        with self._filler.open("wb", buffering=0) as file, suppress(OSError):
            for block in iter(partial(bytes, 4096), None):
                file.write(block)

    def clear(self) -> None:
        self._filler.unlink()


def _folder_for_postgres() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
    if IS_ROOT:
        shutil.chown(folder, "postgres")
    return folder


def _succeeds(command: list[str]) -> bool:
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)
    return done.returncode == 0


@contextmanager
def stopped(server: Server | PostgreSQL) -> Iterator[None]:
    server.stop()
    yield
    server.start()


@contextmanager
def frozen(server: Server | PostgreSQL) -> Iterator[None]:
    server.freeze()
    yield
    server.thaw()


@contextmanager
def demoted(server: Redis) -> Iterator[None]:
    server.demote()
    yield
    server.promote()


@contextmanager
def read_only(server: PostgreSQL) -> Iterator[None]:
    server.set_read_only(True)
    yield
    server.set_read_only(False)
