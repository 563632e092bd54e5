"""A short run of the harness on each database; `make chaos` runs the long one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.chaos.batches import run_batches
from tests.chaos.run import Options, run

SEED = 1
JOBS = 300
LINES = 600


@pytest.mark.parametrize(
    ("db", "faults"),
    [
        ("sqlite", ["kill-worker", "flushall", "stop-worker", "webhook-sender-kill"]),
        ("postgres", ["kill-worker", "redis-kill"]),
    ],
)
def test_no_job_is_lost_doubled_or_wrong(db: str, faults: list[str], tmp_path: Path) -> None:
    report = asyncio.run(run(Options(SEED, JOBS, db, faults), tmp_path, print))
    assert {name: sentences for name, sentences in report.violations.items() if sentences} == {}
    assert report.accepted >= JOBS


@pytest.mark.parametrize(
    ("db", "faults"),
    [("sqlite", ["kill-worker", "kill-assembly", "cancel"]), ("postgres", ["kill-worker", "pause", "window"])],
)
def test_no_line_of_a_batch_is_lost_doubled_or_wrong(db: str, faults: list[str], tmp_path: Path) -> None:
    report = asyncio.run(run_batches(Options(SEED, LINES * len(faults), db, faults, "batch"), tmp_path, print))
    assert {name: sentences for name, sentences in report.violations.items() if sentences} == {}
