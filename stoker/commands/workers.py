"""`stoker workers`: who is alive, and sending one home."""

from __future__ import annotations

from stoker.commands.context import Context
from stoker.commands.words import age

HEADERS = ("WORKER", "STATE", "BUSY", "UP", "QUEUE")


def workers(context: Context) -> int:
    """List the workers, or drain one."""
    typed, screen = context.typed, context.screen
    if typed.action == "drain":
        context.client.drain_worker(typed.worker)
        if context.wants_json:
            screen.json({"id": typed.worker, "draining": True})
        else:
            screen.say(f"{typed.worker} finishes what it holds and stops.")
        return 0
    found = context.client.workers()
    if context.wants_json:
        screen.json([worker.raw for worker in found])
        return 0
    rows = [
        (
            worker.id,
            "draining" if worker.draining else worker.state,
            f"{worker.in_flight} of {worker.slots}",
            age(worker.started_at),
            worker.queue,
        )
        for worker in found
    ]
    screen.table(HEADERS, rows, "No worker is alive; `stoker status` says what runs here.")
    return 0
