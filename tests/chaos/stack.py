"""The whole platform with servers, ports and a state folder of its own: what chaos breaks and bench measures."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stoker.parts import read_parts
from stoker.ports import free_port
from tests.chaos.keeper import Keeper, Surroundings
from tests.chaos.proxy import SickDoor
from tests.services import PostgresServer, RedisServer, S3Server, run_postgres, run_redis, run_s3

ROOT = Path(__file__).resolve().parents[2]
READY_SECONDS = 180.0


@dataclass(frozen=True)
class Wanted:
    """What kind of platform."""

    folder: Path
    db: str
    catalog: str
    settings: dict[str, str]
    redis_keeps_data: bool = True
    s3_may_fall_sick: bool = False
    ready_seconds: float = READY_SECONDS


@dataclass(frozen=True)
class Servers:
    """The foreign programs that the parts talk to."""

    redis: RedisServer
    s3: S3Server
    s3_door: SickDoor | None
    database_url: str
    postgres: PostgresServer | None


@dataclass(frozen=True)
class Stack:
    """A running platform."""

    folder: Path
    url: str
    key: str
    servers: Servers
    keeper: Keeper


@asynccontextmanager
async def run_stack(wanted: Wanted) -> AsyncIterator[Stack]:
    """Start everything, wait until all parts are ready, and leave nothing behind."""
    folder = wanted.folder
    async with AsyncExitStack() as opened:
        servers = await _start_servers(wanted, opened)
        ports = {"api": free_port(), "flower": free_port()}
        (folder / "models.toml").write_text(wanted.catalog)
        environment = _environment(servers, wanted, ports["api"])
        await _ask(environment, "migrate")
        key = json.loads(await _ask(environment, "keys", "ensure", "--name", "local", "--json"))["key"]
        parts = read_parts(await _ask(environment, "parts", "--json"))
        needed = [part for part in parts if part.name != "flower"]  # it only looks on
        keeper = await opened.enter_async_context(Keeper(needed, Surroundings(folder, ROOT, environment, ports)))
        await keeper.wait_ready(wanted.ready_seconds)
        yield Stack(folder, f"http://127.0.0.1:{ports['api']}", key, servers, keeper)


async def _start_servers(wanted: Wanted, opened: AsyncExitStack) -> Servers:
    folder = wanted.folder
    redis = opened.enter_context(run_redis(folder / "redis", append_only=wanted.redis_keeps_data))
    s3 = opened.enter_context(run_s3(folder / "s3"))
    door = await opened.enter_async_context(SickDoor(s3.port)) if wanted.s3_may_fall_sick else None
    if wanted.db == "sqlite":
        return Servers(redis, s3, door, f"sqlite+pysqlite:///{folder / 'stoker.db'}", None)
    postgres = opened.enter_context(run_postgres(folder / "postgres"))
    return Servers(redis, s3, door, postgres.url, postgres)


def _environment(servers: Servers, wanted: Wanted, api_port: int) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("STOKER_")}
    ours = {
        "STOKER_ENVIRONMENT": "development",
        "STOKER_CATALOG": str(wanted.folder / "models.toml"),
        "STOKER_DATABASE_URL": servers.database_url,
        "STOKER_REDIS_URL": servers.redis.url,
        "STOKER_S3_ENDPOINT": (servers.s3_door or servers.s3).endpoint,
        "STOKER_S3_PUBLIC_ENDPOINT": servers.s3.endpoint,
        "STOKER_S3_ACCESS_KEY": servers.s3.access_key,
        "STOKER_S3_SECRET_KEY": servers.s3.secret_key,
        "STOKER_S3_BUCKET": servers.s3.bucket,
        "STOKER_API_HOST": "127.0.0.1",
        "STOKER_API_PORT": str(api_port),
        "STOKER_STATE_DIR": str(wanted.folder),
        "OMP_NUM_THREADS": "1",
    }
    return inherited | ours | wanted.settings


async def _ask(environment: dict[str, str], *arguments: str) -> str:
    """Run an operator command of the API and return what it printed."""
    command: list[Any] = [sys.executable, "-m", "producer_api", *arguments]
    answer = await asyncio.to_thread(
        subprocess.run, command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    if answer.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {answer.returncode}:\n{answer.stdout}{answer.stderr}")
    return str(answer.stdout)
