"""A Redis that dies, forgets, or says too much."""

from __future__ import annotations

import asyncio
import json

from storage.hints import HintTemplate
from tasks.dispatch import HINT_TASK
from tests.chaos.faults.fault import Fault
from tests.chaos.waiting import until
from tests.chaos.workload import QUEUES

OUTAGE_SECONDS = 1.5
LONGEST_OUTAGE_SECONDS = 10.0
COPIES = 200
EATEN_SECONDS = 15.0
ALL_QUEUES = [queue for queues in QUEUES.values() for queue in queues]


class RedisKill(Fault):
    """Redis dies without an append-only file and comes back empty."""

    name = "redis-kill"

    async def inject(self) -> None:
        await self.scene.until_busy()
        self.note_what_runs()
        server, load = self.scene.stack.servers.redis, self.scene.load
        with self.scene.redis() as client:
            before = client.info("server")["run_id"]
        server.kill()
        sent = load.submit_next(10)
        await asyncio.sleep(OUTAGE_SECONDS)
        if not await until(lambda: any(history.job_ids for history in sent), LONGEST_OUTAGE_SECONDS):
            self.broken.append(f"no submit was accepted in {LONGEST_OUTAGE_SECONDS:g} s without Redis")
        accepted = sum(1 for history in sent if history.job_ids)
        await asyncio.to_thread(server.start)
        with self.scene.redis() as client:
            if client.info("server")["run_id"] != before:
                self.proof = f"another Redis came back; {accepted} of {len(sent)} submits were accepted without one"


class FlushAll(Fault):
    """Redis forgets everything at once: hints, event logs, Celery's own state."""

    name = "flushall"

    async def inject(self) -> None:
        await self.scene.until_busy()
        self.note_what_runs()
        with self.scene.redis() as client:
            if before := client.dbsize():
                client.flushall()
                self.proof = f"{before} keys were forgotten"


class Duplicates(Fault):
    """Hints come hundreds of times, and with them what no part ever sent."""

    name = "duplicates"

    async def inject(self) -> None:
        pushed = 0
        with self.scene.redis() as client:
            for queue in ALL_QUEUES:
                template = HintTemplate(HINT_TASK, queue)
                messages = [*(template.render() for _ in range(COPIES)), *garbage(queue)]
                self.scene.chance.shuffle(messages)
                client.lpush(queue, *messages)
                pushed += len(messages)
            await until(lambda: not any(client.llen(queue) > COPIES // 2 for queue in ALL_QUEUES), EATEN_SECONDS)
            left = sum(client.llen(queue) for queue in ALL_QUEUES)
        if left < pushed // 2:
            self.proof = f"{pushed} hints and scraps were pushed, {left} were left"


def garbage(queue: str) -> list[str]:
    """Return messages that are nearly right, and messages that are not even wrong."""
    right = json.loads(HintTemplate(HINT_TASK, queue).render())
    headers, properties = right["headers"], right["properties"]
    return [
        json.dumps(right | {"headers": headers | {"task": "jobs.unknown"}}),
        json.dumps(right | {"body": "bm90IGpzb24="}),
        json.dumps(right | {"content-type": "application/x-python-serialize"}),
        json.dumps(right | {"headers": {}}),
        HintTemplate(HINT_TASK, "text.unknown.cpu0").render(),
        HintTemplate(HINT_TASK, queue, ["a", "b", "c"]).render(),
        json.dumps(right | {"properties": properties | {"priority": "high"}}),
        json.dumps(right | {"properties": {}}),
        "{}",
        "[]",
        "not json",
        "",
    ]
