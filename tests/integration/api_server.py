"""The API as a process of its own, on a port of its own, over real stores."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from producer_api.services import open_services
from producer_api.settings import ApiSettings
from schemas.catalog import Catalog
from stoker.ports import free_port
from storage.database import Database
from storage.settings import StorageSettings
from tasks.settings import TaskSettings
from tests.api import Desk, build_app, catalog

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 60.0


def catalog_text(told: Catalog) -> str:
    """A catalog as the file that it would be read from."""
    tables = []
    for alias, model in told.models.items():
        devices = ", ".join(f'"{device}"' for device in model.devices)
        tables.append(
            f'[models.{alias}]\nkind = "{model.kind}"\nengine = "fake"\nsource = "builtin"\ndevices = [{devices}]\n'
            f"context_length = {model.context_length}\ntimeout_seconds = {model.timeout_seconds}\n"
            f"max_in_flight = {model.max_in_flight}\n"
        )
    return "\n".join(tables)


def environment(folder: Path, **settings: str) -> dict[str, str]:
    """The environment of a process: nothing of ours but these settings and a catalog in `folder`."""
    path = folder / "models.toml"
    if not path.exists():
        path.write_text(catalog_text(catalog()))
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("STOKER_")}
    told = {f"STOKER_{name.upper()}": value for name, value in settings.items()}
    return inherited | {"STOKER_CATALOG": str(path)} | told


def run_command(environment: dict[str, str], *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run an operator command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "producer_api", *words],
        cwd=ROOT,
        env=environment,
        input=given,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


@dataclass
class ApiServer:
    """A running `python -m producer_api`."""

    url: str
    process: psutil.Popen
    log: Path

    def stop(self) -> int:
        """Send SIGTERM and wait; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return int(self.process.wait(PATIENCE_SECONDS))


@contextmanager
def run_server(environment: dict[str, str], folder: Path, *inherited: int) -> Iterator[ApiServer]:
    """Start the API, wait until it answers, and leave nothing behind."""
    port, log = free_port(), folder / "api.log"
    with log.open("wb") as output:
        process = psutil.Popen(
            [sys.executable, "-m", "producer_api", "--port", str(port)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=inherited,
        )
    server = ApiServer(f"http://127.0.0.1:{port}", process, log)
    try:
        _wait_until_live(server)
        yield server
    finally:
        if process.is_running() and process.poll() is None:
            process.kill()
        process.wait(PATIENCE_SECONDS)


def _wait_until_live(server: ApiServer) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            httpx.get(f"{server.url}/health/live")
        except httpx.TransportError:
            assert server.process.poll() is None, server.log.read_text()
            assert time.monotonic() < deadline, server.log.read_text()
            time.sleep(0.05)
        else:
            return


@asynccontextmanager
async def visit(server: ApiServer, environment: dict[str, str]) -> AsyncIterator[Desk]:
    """A client of the server with every scope, and the server's stores for the worker that the test plays."""
    storage = StorageSettings.read(environment)
    database = Database(storage.database_url)
    services = open_services(ApiSettings(), TaskSettings(), storage, catalog(), database)
    try:
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE_SECONDS, limits=UNLIMITED) as client:
            desk = Desk(build_app(services), client, services)
            client.headers["Authorization"] = f"Bearer {desk.key()}"
            yield desk
    finally:
        await services.aclose()


UNLIMITED = httpx.Limits(max_connections=None, max_keepalive_connections=None)
