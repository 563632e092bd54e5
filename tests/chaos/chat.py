"""The real text engine under its own faults: what was asked in calm must be answered in the same words under them.

Every job is greedy, so its answer is known: it was given once in calm. A truncated or spliced answer is a wrong one.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Awaitable, Callable
from itertools import product
from pathlib import Path

import psutil
import redis

from schemas.base import JsonObject
from tests.chaos.calm import START_SECONDS, CalmScene, Wish, note_orphans, strike_all
from tests.chaos.client import Client
from tests.chaos.database import open_rows
from tests.chaos.history import JobHistory
from tests.chaos.run import SETTINGS, Options, Report, Say
from tests.chaos.stack import Wanted, run_stack

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


class ChatScene(CalmScene):
    """The platform with the demo's chat model."""

    part = "worker-chat-cpu0"
    busy_jobs = 6

    def engine_process(self) -> psutil.Process | None:
        """Return the process that decodes: the worker's largest child."""
        children = psutil.Process(self.worker.pid).children(recursive=True)
        return max(children, key=lambda child: child.memory_info().rss, default=None)

    def body(self, wish: Wish) -> JsonObject:
        """Return the job that asks for it, greedily."""
        question, adapter = wish
        given = {"messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": 160}
        return {"kind": "text", "model": "chat", "input": given if adapter is None else given | {"adapter": adapter}}

    async def see(self, wish: Wish, job: JsonObject, history: JobHistory) -> None:
        """Fetch the answer; what it must be is in the history."""
        if wish in self.outputs:
            await self.client.fetch(history, job)


async def _kill_worker(scene: ChatScene) -> str:
    engine, starts = scene.engine_process(), scene.worker.starts
    scene.worker.kill9()
    await scene.worker.wait_ready(START_SECONDS, after=starts)
    is_gone = engine is not None and not engine.is_running()
    return "the worker died with -9, and its engine's process with it" if is_gone else ""


async def _kill_core(scene: ChatScene) -> str:
    engine, starts = scene.engine_process(), scene.worker.starts
    if engine is None:
        return ""
    engine.kill()
    await scene.worker.wait_ready(START_SECONDS, after=starts)
    return "the engine's process died with -9, and the worker began anew"


async def _term_group(scene: ChatScene) -> str:
    starts, exits = scene.worker.starts, len(scene.worker.exits)
    os.killpg(scene.worker.pid, signal.SIGTERM)
    await scene.worker.wait_ready(START_SECONDS, after=starts)
    return "the whole group was asked to end and did" if scene.worker.exits[exits:] == [0] else ""


async def _flush(scene: ChatScene) -> str:
    with redis.Redis.from_url(scene.stack.servers.redis.url, socket_timeout=5) as client:
        keys = client.dbsize()
        client.flushall()
    return f"Redis forgot {keys} keys" if keys else ""


STRIKES: dict[str, Callable[[ChatScene], Awaitable[str]]] = {
    "kill-worker": _kill_worker,
    "kill-core": _kill_core,
    "term-group": _term_group,
    "flushall": _flush,
}


async def run_chat(options: Options, folder: Path, say: Say) -> Report:
    """Run it all; whatever happens, every process is gone when this returns."""
    wanted = Wanted(folder, options.db, CATALOG, SETTINGS, ready_seconds=START_SECONDS)
    async with run_stack(wanted) as stack, Client(stack.url, stack.key) as client:
        with open_rows(stack.servers.database_url) as rows:
            scene = ChatScene(stack, client, rows, random.Random(f"chat of {options.seed}"))
            await scene.learn(product(QUESTIONS, ADAPTERS))
            report = await strike_all(scene, STRIKES, options, say)
    return note_orphans(report, folder)
