"""A short run of the harness on each database; `make chaos` runs the long one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.chaos.run import Options, run

SEED = 1
JOBS = 300


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
