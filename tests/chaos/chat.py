"""The real text engine under its own faults: what was asked in calm must be answered in the same words under them.

Every job is greedy, so its answer is known: it was given once in calm. A truncated or spliced answer is a wrong one.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import psutil
import redis

from schemas.base import JsonObject
from tests.chaos.checker import check
from tests.chaos.client import Client
from tests.chaos.database import Rows, open_rows
from tests.chaos.history import Expectation, JobHistory, digest
from tests.chaos.keeper import Kept
from tests.chaos.run import SETTINGS, Options, Report, Say, orphans
from tests.chaos.stack import Stack, Wanted, run_stack
from tests.chaos.waiting import until

CATALOG = """
[models.chat]
kind = "text"
engine = "vllm"
source = "./models/chat/weights"
devices = ["cpu0"]
max_in_flight = 32
context_length = 1024
timeout_seconds = 120
options = { dtype = "float32", kv_cache_gib = 0.25 }

[models.chat.adapters.pirate]
source = "./models/chat/adapters/pirate"

[models.chat.adapters.haiku]
source = "./models/chat/adapters/haiku"
"""
WORKER = "worker-chat-cpu0"
QUESTIONS = (
    "What is a queue?",
    "What is Stoker?",
    "Tell me a story about a fox.",
    "Tell me a story about a lighthouse.",
    "Tell me a story about a robot and a river.",
    "Count from one to ten.",
    "What is a webhook good for?",
    "Who are you?",
)
ADAPTERS = (None, "pirate", "haiku")
START_SECONDS = 240.0
BUSY_JOBS = 6
PATIENCE_SECONDS = 180.0


@dataclass
class Scene:
    """The platform, its one engine, and the questions whose answers are known."""

    stack: Stack
    client: Client
    rows: Rows
    chance: random.Random
    answers: dict[tuple[str, str | None], str]
    histories: list[JobHistory]

    @property
    def worker(self) -> Kept:
        """Return the worker with the engine."""
        return self.stack.keeper.parts[WORKER]

    def engine_process(self) -> psutil.Process | None:
        """Return the process that decodes: the worker's largest child."""
        children = psutil.Process(self.worker.pid).children(recursive=True)
        return max(children, key=lambda child: child.memory_info().rss, default=None)

    async def learn(self) -> None:
        """Ask everything once in calm."""
        asked = [(pair, JobHistory(f"calm-{index}", Expectation())) for index, pair in enumerate(self.answers)]
        for (question, adapter), history in asked:
            await self.client.submit(_body(question, adapter), history)
        for pair, history in asked:
            job = await self._end(history)
            if job["status"] != "succeeded":
                raise RuntimeError(f"{history.job_id} was asked in calm and is {job['status']}: {job['error']}")
            self.answers[pair] = digest(job["output"])

    async def ask(self, number: int) -> list[JobHistory]:
        """Submit questions; their answers are known."""
        asked = []
        for question, adapter in self.chance.choices(list(self.answers), k=number):
            history = JobHistory(f"chat-{len(self.histories)}", Expectation(output=self.answers[question, adapter]))
            self.histories.append(history)
            asked.append(self.client.submit(_body(question, adapter), history))
        await asyncio.gather(*asked)
        return self.histories[-number:]

    async def answered(self, histories: list[JobHistory]) -> None:
        """Wait until these have ended, and fetch what they gave."""
        for job, history in zip(await asyncio.gather(*map(self._end, histories)), histories, strict=True):
            if job["status"] == "succeeded":
                await self.client.fetch(history, job)

    async def _end(self, history: JobHistory) -> JsonObject:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                job = await self.client.look(history, 5)
                if job is not None and history.has_ended:
                    return job


def _body(question: str, adapter: str | None) -> JsonObject:
    given = {"messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": 160}
    return {"kind": "text", "model": "chat", "input": given if adapter is None else given | {"adapter": adapter}}


async def _kill_worker(scene: Scene) -> str:
    engine, starts = scene.engine_process(), scene.worker.starts
    scene.worker.kill9()
    await scene.worker.wait_ready(START_SECONDS, after=starts)
    is_gone = engine is not None and not engine.is_running()
    return "the worker died with -9, and its engine's process with it" if is_gone else ""


async def _kill_core(scene: Scene) -> str:
    engine, starts = scene.engine_process(), scene.worker.starts
    if engine is None:
        return ""
    engine.kill()
    await scene.worker.wait_ready(START_SECONDS, after=starts)
    return "the engine's process died with -9, and the worker began anew"


async def _term_group(scene: Scene) -> str:
    starts, exits = scene.worker.starts, len(scene.worker.exits)
    os.killpg(scene.worker.pid, signal.SIGTERM)
    await scene.worker.wait_ready(START_SECONDS, after=starts)
    return "the whole group was asked to end and did" if scene.worker.exits[exits:] == [0] else ""


async def _flush(scene: Scene) -> str:
    with redis.Redis.from_url(scene.stack.servers.redis.url, socket_timeout=5) as client:
        keys = client.dbsize()
        client.flushall()
    return f"Redis forgot {keys} keys" if keys else ""


STRIKES: dict[str, Callable[[Scene], Awaitable[str]]] = {
    "kill-worker": _kill_worker,
    "kill-core": _kill_core,
    "term-group": _term_group,
    "flushall": _flush,
}


async def run_chat(options: Options, folder: Path, say: Say) -> Report:
    """Run it all; whatever happens, every process is gone when this returns."""
    report = Report()
    wanted = Wanted(folder, options.db, CATALOG, SETTINGS, ready_seconds=START_SECONDS)
    async with run_stack(wanted) as stack, Client(stack.url, stack.key) as client:
        with open_rows(stack.servers.database_url) as rows:
            chance = random.Random(f"chat of {options.seed}")
            scene = Scene(stack, client, rows, chance, dict.fromkeys(product(QUESTIONS, ADAPTERS), ""), [])
            await scene.learn()
            say(f"{len(scene.answers)} questions were answered in calm")
            never_fired = [name async for name in _strike_all(scene, options, say)]
            report.violations = check(scene.histories)
            report.violations["never_fired"] = never_fired
            report.violations["disorder"] = rows.disorder()
    report.violations["orphans"] = orphans(folder)
    report.accepted = len(scene.histories)
    report.statuses = Counter(str(look.status) for one in scene.histories if (look := one.last_look))
    return report


async def _strike_all(scene: Scene, options: Options, say: Say) -> AsyncIterator[str]:
    """Strike while answers are on their way; yield what never fired."""
    for name in options.faults:
        histories = await scene.ask(-(-options.jobs // len(options.faults)))
        await until(lambda: len(scene.rows.running()) >= BUSY_JOBS, PATIENCE_SECONDS)
        running = len(scene.rows.running())
        proof = await STRIKES[name](scene) if running else ""
        await scene.answered(histories)
        again = sum(1 for one in histories if (look := one.last_look) and look.attempt > 1)
        ran = f"{running} answers were on their way, {again} of {len(histories)} ran again"
        say(f"{name}: {proof or 'NEVER FIRED'}; {ran}")
        if not proof:
            yield name
