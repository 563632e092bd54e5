"""The shells around the reconciler and the sweep: beat sends their messages, the maintenance worker runs them."""

from __future__ import annotations

from celery import Task

from tasks.batches.clerk import Clerk
from tasks.celery_app import SWEEP_TASK, TICK_TASK
from tasks.reconcile import Reconciler
from tasks.routing import BATCH_TASK
from tasks.sweep import Sweep


class Tick(Task):
    """`maintenance.tick`: reconcile once."""

    name = TICK_TASK
    ignore_result = True
    send_events = False  # one a second would push the jobs out of Flower's memory

    def __init__(self, reconciler: Reconciler) -> None:
        self._reconciler = reconciler

    def run(self, *_: object) -> str:
        """Do the reconciler's duties."""
        return self._reconciler.tick()


class WorkOnBatches(Task):
    """`batches.work`: a batch was created, or has no line left."""

    name = BATCH_TASK
    ignore_result = True

    def __init__(self, clerk: Clerk) -> None:
        self._clerk = clerk

    def run(self, *_: object) -> str:
        """Wake the clerk."""
        self._clerk.poke()
        return "the clerk looks"


class RunSweep(Task):
    """`maintenance.sweep`: sweep once."""

    name = SWEEP_TASK
    ignore_result = True

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep

    def run(self, *_: object) -> str:
        """Do the sweep's duties."""
        return self._sweep.run()
