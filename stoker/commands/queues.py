"""`stoker queues`: how deep they are, and steering one."""

from __future__ import annotations

from stoker.client import Queue
from stoker.commands.context import Context
from stoker.commands.words import duration

HEADERS = ("QUEUE", "STATE", "QUEUED", "LATER", "RUNNING", "LINES", "WORKERS", "WAIT")


def queues(context: Context) -> int:
    """List the queues, or do what is asked of one."""
    if context.typed.action is not None:
        return _steer(context, context.typed.action, context.typed.queue)
    found = context.client.queues()
    if context.wants_json:
        context.screen.json([queue.raw for queue in found])
        return 0
    rows = [
        (
            queue.name,
            state_of(queue),
            queue.depth.get("queued"),
            queue.depth.get("scheduled"),
            queue.depth.get("running"),
            sum(queue.depth.get(name) or 0 for name in ("lines", "running_lines")),
            len(queue.workers),
            duration(queue.wait_ms.get("p50")),
        )
        for queue in found
    ]
    context.screen.table(HEADERS, rows, "There are no queues: the catalog has no models.")
    return 0


def state_of(queue: Queue) -> str:
    """Return what a queue does in one word."""
    if queue.paused:
        return "paused"
    states = [worker.state for worker in queue.workers] or ["no_worker"]
    return "ready" if "ready" in states else states[0]  # a worker that still loads runs nothing yet


def _steer(context: Context, action: str, name: str) -> int:
    client = context.client
    if action == "purge":
        canceled = client.purge_queue(name)
        told, said = {"name": name, "canceled": canceled}, f"{name} is purged: {canceled} waiting jobs were canceled."
    elif action == "drain":
        drain = client.drain_queue(name)
        told = dict(drain.raw)
        said = f"{name} is paused; {drain.moved} waiting jobs and lines moved to {drain.moved_to}."
        if drain.moved_to is None:
            said = f"{name} is paused; what waits stays: no other placement of its model has a worker."
    else:
        queue = client.pause_queue(name) if action == "pause" else client.resume_queue(name)
        told = dict(queue.raw)
        said = f"{name} is {'paused' if queue.paused else 'open'}; {queue.depth.get('queued')} jobs wait in it."
    if context.wants_json:
        context.screen.json(told)
    else:
        context.screen.say(said)
    return 0
