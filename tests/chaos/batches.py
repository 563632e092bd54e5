"""Batches under faults: each strike hits a batch of its own in the middle; then its files are counted line by line."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from tests.chaos.batch_checker import Struck, check_batches
from tests.chaos.batch_client import DEADLY_ATTEMPTS, MODEL, BatchClient, plan_lines
from tests.chaos.database import Rows, open_rows
from tests.chaos.keeper import Kept
from tests.chaos.run import SETTINGS, Options, Report, Say, orphans
from tests.chaos.scene import RESTART_SECONDS
from tests.chaos.stack import Stack, Wanted, run_stack
from tests.chaos.waiting import until

CATALOG = f"""
[models.{MODEL}]
kind = "embedding"
engine = "fake"
source = "builtin"
devices = ["cpu0", "cpu1"]
max_in_flight = 32
options = {{ decode_step_ms = 2 }}
"""
PATIENCE_SECONDS = 90.0
SICK_SECONDS = 2.0
PAUSED_SECONDS = 1.5
DEADLY_LINES = 2
WITHOUT_RECONCILER = {"kill-assembly", "s3-500"}
"""These freeze it, and lines that stumble wait for it."""


@dataclass
class BatchScene:
    """The platform, its caller, and its rows."""

    stack: Stack
    client: BatchClient
    rows: Rows
    chance: random.Random

    def part(self, name: str) -> Kept:
        """Return a part."""
        return self.stack.keeper.parts[name]

    def count(self, condition: str) -> int:
        """Count lines."""
        return int(self.rows.read(f"SELECT count(*) FROM batch_lines WHERE {condition}")[0][0])  # noqa: S608 - ours

    def held_by(self, worker: Kept) -> int:
        """Count the lines that a worker runs."""
        return self.count(f"status = 'running' AND owner IN (SELECT id FROM workers WHERE pid = {worker.pid})")  # noqa: S608 - ours

    def status(self, struck: Struck) -> str:
        """Return where a batch is, as SQL says."""
        return str(self.rows.read(f"SELECT status FROM batches WHERE id = '{struck.view['id']}'")[0][0])  # noqa: S608 - ours

    async def until_middle(self) -> None:
        """Wait until some lines have ended and many have not; when in between is left to chance."""
        await until(lambda: self.count("status = 'running'") > 0, PATIENCE_SECONDS)
        wanted = self.chance.uniform(0.1, 0.5) * self.count("id >= 0")
        await until(lambda: self.count("status IN ('succeeded', 'failed')") > wanted, PATIENCE_SECONDS)

    async def freeze(self, kept: Kept) -> None:
        """Stop a part, but not inside a write on SQLite, where it would keep all others from writing."""
        kept.stop()
        while self.rows.is_locked():
            kept.cont()
            await asyncio.sleep(0.05)
            kept.stop()

    async def kill(self, kept: Kept) -> None:
        """Kill a part and wait until it is ready again."""
        starts = kept.starts
        kept.kill9()
        await kept.wait_ready(RESTART_SECONDS, after=starts)

    @asynccontextmanager
    async def sick_store(self) -> AsyncIterator[list[str]]:
        """Let the store answer 500 for as long as the block runs; what it refused is in the list afterwards."""
        door = self.stack.servers.s3_door
        if door is None:
            raise RuntimeError("this platform talks to its object store directly")
        before, refused = len(door.refused), list[str]()
        door.fall_sick()
        try:
            yield refused
        finally:
            door.get_well()
            refused += door.refused[before:]


async def _kill_worker(scene: BatchScene, struck: Struck) -> str:
    """The lines in flight are counted when it is dead: nobody takes them away before its lease is over."""
    await scene.until_middle()
    workers = [scene.part(f"worker-{MODEL}-{device}") for device in ("cpu0", "cpu1")]
    victim = max(workers, key=scene.held_by)
    starts = victim.starts
    victim.kill9()
    struck.in_flight = scene.held_by(victim)
    await victim.wait_ready(RESTART_SECONDS, after=starts)
    return f"{struck.in_flight} lines were in flight" if struck.in_flight else ""


async def _kill_api(scene: BatchScene, _: Struck) -> str:
    await scene.until_middle()
    running = scene.count("status = 'running'")
    await scene.kill(scene.part("api"))
    return f"{running} lines were running" if running else ""


async def _kill_validation(scene: BatchScene, struck: Struck) -> str:
    return await _kill_clerk(scene, struck, "validating")


async def _kill_assembly(scene: BatchScene, struck: Struck) -> str:
    return await _kill_clerk(scene, struck, "finalizing")


async def _kill_clerk(scene: BatchScene, struck: Struck, status: str) -> str:
    """Freeze it before that moment, so that it wakes up to a sick store, and kill it while it tries."""
    maintenance = scene.part("maintenance")
    if status != "validating":
        await scene.until_middle()
        await scene.freeze(maintenance)
    if not await until(lambda: scene.status(struck) == status, PATIENCE_SECONDS):
        return ""
    async with scene.sick_store() as refused:
        maintenance.cont()
        await asyncio.sleep(SICK_SECONDS)
        await scene.kill(maintenance)
    return f"it died {status}, {len(refused)} requests were refused" if refused else ""


async def _store_errors(scene: BatchScene, struck: Struck) -> str:
    """Fail while lines run and again while their files are made."""
    await scene.until_middle()
    async with scene.sick_store() as running:
        await asyncio.sleep(SICK_SECONDS)
    maintenance = scene.part("maintenance")
    await scene.freeze(maintenance)
    await until(lambda: scene.status(struck) == "finalizing", PATIENCE_SECONDS)
    async with scene.sick_store() as making:
        maintenance.cont()
        await asyncio.sleep(SICK_SECONDS)
    said = f"{len(running)} requests were refused while lines ran, {len(making)} while files were made"
    return said if running and making else ""


async def _flush(scene: BatchScene, _: Struck) -> str:
    await scene.until_middle()
    waiting = scene.count("status = 'queued'")
    with redis.Redis.from_url(scene.stack.servers.redis.url, socket_timeout=5) as client:
        client.flushall()
    return f"{waiting} lines waited" if waiting else ""


async def _pause(scene: BatchScene, struck: Struck) -> str:
    await scene.until_middle()
    await scene.client.steer(struck, "pause")
    await until(lambda: scene.count("status = 'running'") == 0, PATIENCE_SECONDS)
    held, done = scene.count("status = 'held'"), (await scene.client.look(struck))["request_counts"]
    await asyncio.sleep(PAUSED_SECONDS)
    is_still = (await scene.client.look(struck))["request_counts"] == done
    await scene.client.steer(struck, "resume")
    return f"{held} lines were held" if held and is_still else ""


async def _cancel(scene: BatchScene, struck: Struck) -> str:
    await scene.until_middle()
    running = scene.count("status = 'running'")
    struck.end = "cancelled"
    await scene.client.steer(struck, "cancel")
    return f"{running} lines were running" if running else ""


async def _kill_reconciler(scene: BatchScene, struck: Struck) -> str:
    """Kill a worker, too, so that there is something to reconcile."""
    await scene.until_middle()
    victims = [scene.part(name) for name in (f"worker-{MODEL}-cpu0", "maintenance", "beat")]
    starts = [victim.starts for victim in victims]
    for victim in victims:
        victim.kill9()
    struck.in_flight = scene.held_by(victims[0])
    for victim, before in zip(victims, starts, strict=True):
        await victim.wait_ready(RESTART_SECONDS, after=before)
    return f"{struck.in_flight} lines were in flight" if struck.in_flight else ""


async def _poison(scene: BatchScene, struck: Struck) -> str:
    """Some lines kill the worker that runs them; what they take along is counted as lost, and no more runs again."""
    workers = [scene.part(f"worker-{MODEL}-{device}") for device in ("cpu0", "cpu1")]
    starts = sum(worker.starts for worker in workers)
    struck.most_deaths = DEADLY_LINES * DEADLY_ATTEMPTS
    await scene.client.has_ended(struck, PATIENCE_SECONDS)
    struck.deaths = sum(worker.starts for worker in workers) - starts
    return f"{struck.deaths} workers died" if struck.deaths else ""


async def _close_window(scene: BatchScene, struck: Struck) -> str:
    await scene.until_middle()
    running = scene.count("status = 'running'")
    struck.end = "expired"
    scene.rows.close_window(str(struck.view["id"]))
    return f"{running} lines were running" if running else ""


BATCH_STRIKES: dict[str, Callable[[BatchScene, Struck], Awaitable[str]]] = {
    "kill-worker": _kill_worker,
    "kill-api": _kill_api,
    "kill-validation": _kill_validation,
    "kill-assembly": _kill_assembly,
    "s3-500": _store_errors,
    "flushall": _flush,
    "pause": _pause,
    "cancel": _cancel,
    "kill-reconciler": _kill_reconciler,
    "poison": _poison,
    "window": _close_window,
}


async def run_batches(options: Options, folder: Path, say: Say) -> Report:
    """Run it all; whatever happens, every process is gone when this returns."""
    report, struck = Report(), list[Struck]()
    wanted = Wanted(folder, options.db, CATALOG, SETTINGS, redis_keeps_data=False, s3_may_fall_sick=True)
    async with run_stack(wanted) as stack, BatchClient(stack.url, stack.key) as client:
        with open_rows(stack.servers.database_url) as rows:
            rows.note_ended_lines()
            scene = BatchScene(stack, client, rows, random.Random(f"batches of {options.seed}"))
            report.violations["never_fired"] = []
            for name in options.faults:
                lines, stumbles = -(-options.jobs // len(options.faults)), name not in WITHOUT_RECONCILER
                deadly = DEADLY_LINES if name == "poison" else 0
                one = Struck(name, plan_lines(scene.chance, lines, stumbles=stumbles, deadly=deadly))
                struck.append(one)
                proof = await _strike(scene, one)
                say(f"{name}: {proof or 'NEVER FIRED'}; {_told(one)}")
                if not proof:
                    report.violations["never_fired"].append(name)
            report.violations |= check_batches(struck)
            report.violations["lines_left"] = [f"{left} lines"] if (left := scene.count("id >= 0")) else []
    report.violations["orphans"] = orphans(folder)
    report.accepted = sum(len(one.planned) for one in struck)
    report.statuses = Counter(str(one.view.get("status")) for one in struck)
    return report


async def _strike(scene: BatchScene, struck: Struck) -> str:
    if struck.name == "kill-validation":
        await scene.freeze(scene.part("maintenance"))
    await scene.client.create(struck)
    proof = await BATCH_STRIKES[struck.name](scene, struck)
    if await scene.client.has_ended(struck, PATIENCE_SECONDS):
        noted = scene.rows.take_attempts()
        struck.attempts = [attempts for attempts, _ in noted]
        if struck.name == "poison":  # who died when is known to the rows alone
            struck.in_flight = sum(lost for _, lost in noted)
    return proof


def _told(struck: Struck) -> str:
    again = sum(struck.attempts) - sum(one.attempts for one in struck.planned.values())
    return f"{struck.view.get('status')} {struck.view.get('request_counts')}, {max(0, again)} lines ran again"
