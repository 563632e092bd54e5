"""One run: the platform under load, fault after fault, then peace, then the counting."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.chaos.checker import Violations, check
from tests.chaos.client import Client
from tests.chaos.database import open_rows
from tests.chaos.faults import FAULTS, Fault
from tests.chaos.load import Load
from tests.chaos.scene import DRAIN_SECONDS, LEASE_SECONDS, RESTART_SECONDS, TICK_SECONDS, Scene
from tests.chaos.stack import Wanted, run_stack
from tests.chaos.waiting import until
from tests.chaos.workload import CATALOG

SECONDS_PER_FAULT = 10.0
CALM_SECONDS = 60.0
RECOVERY_SECONDS = 60.0
LAST_DRAIN_SECONDS = 90.0
SETTINGS = {
    "STOKER_LEASE_SECONDS": str(LEASE_SECONDS),
    "STOKER_TICK_SECONDS": str(TICK_SECONDS),
    "STOKER_DRAIN_SECONDS": str(DRAIN_SECONDS),
    "STOKER_EGRESS_ALLOW": "127.0.0.0/8",
    "STOKER_EGRESS_PORTS": "1-65535",
    "STOKER_EGRESS_HTTP": "true",
    "STOKER_WEBHOOK_TIMEOUT_SECONDS": "3",
    "STOKER_WEBHOOK_DELAYS": "0,1,2,4,8,8,8,8",
}

Say = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """What is asked for."""

    seed: int
    jobs: int
    db: str
    faults: list[str]
    model: str = "fake"


@dataclass
class Aftermath:
    """What one fault left."""

    name: str
    proof: str
    seen: str
    broken: list[str]
    moved_seconds: float | None = None
    """From its end until every job that was running then had ended or moved."""
    flow_seconds: float | None = None
    """From its end until the next job was finished."""


@dataclass
class Report:
    """Everything that is counted."""

    accepted: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    violations: Violations = field(default_factory=dict)
    aftermaths: list[Aftermath] = field(default_factory=list)

    @property
    def has_passed(self) -> bool:
        """Say whether every count is what it must be."""
        return bool(self.violations) and not any(self.violations.values())


async def run(options: Options, folder: Path, say: Say) -> Report:
    """Run it all; whatever happens, every process is gone when this returns."""
    report = Report()
    wanted = Wanted(folder, options.db, CATALOG, SETTINGS, redis_keeps_data=False, s3_may_fall_sick=True)
    async with run_stack(wanted) as stack, Client(stack.url, stack.key) as client:
        load = Load(client, options.seed)
        with open_rows(stack.servers.database_url) as rows:
            scene = Scene(stack, load, rows, random.Random(f"faults of {options.seed}"))
            try:
                await _break_things(scene, options, report, say)
                await _bring_peace(scene, options.jobs, say)
            finally:
                await load.stop()
            _count(scene, report)
    report.violations["orphans"] = orphans(folder)
    return report


async def _break_things(scene: Scene, options: Options, report: Report, say: Say) -> None:
    names = list(options.faults)
    scene.chance.shuffle(names)
    async with scene.load.flowing(options.jobs / (SECONDS_PER_FAULT * len(names))):
        for name in names:
            if FAULTS[name].needs_calm and not await scene.rows.suspects_are_done(CALM_SECONDS):
                say(f"{name}: jobs that were lost before are still not done after {CALM_SECONDS:g} s")
            aftermath = await _break(FAULTS[name](scene))
            report.aftermaths.append(aftermath)
            say(_line(aftermath))


async def _break(fault: Fault) -> Aftermath:
    rows, load = fault.scene.rows, fault.scene.load
    fault.note_what_runs()
    await fault.inject()
    await fault.heal()
    ended_at, finished = time.monotonic(), rows.count("finished_at IS NOT NULL")
    load.submit_next(3)
    aftermath = Aftermath(fault.name, "", "", fault.broken)
    if await until(lambda: rows.count("finished_at IS NOT NULL") > finished, RECOVERY_SECONDS):
        aftermath.flow_seconds = time.monotonic() - ended_at
    if await until(lambda: not rows.still_held(fault.held), RECOVERY_SECONDS):
        aftermath.moved_seconds = time.monotonic() - ended_at
    await fault.judge()
    aftermath.proof = fault.proof
    aftermath.seen = fault.proof or f"NEVER FIRED ({fault.seen or 'nothing was seen'})"
    return aftermath


def _line(aftermath: Aftermath) -> str:
    def seconds(value: float | None) -> str:
        return "never" if value is None else f"{value:.1f} s"

    flow, moved = seconds(aftermath.flow_seconds), seconds(aftermath.moved_seconds)
    said = [aftermath.seen, f"next finish after {flow}, all moved after {moved}", *aftermath.broken]
    return f"{aftermath.name}: {'; '.join(said)}"


async def _bring_peace(scene: Scene, jobs: int, say: Say) -> None:
    load = scene.load
    load.submit_next(max(0, jobs - len(load.histories)))
    say(f"faults are over: {len(load.histories)} jobs were sent, {load.ended()} were seen to end; draining")
    await load.drain(LAST_DRAIN_SECONDS)
    say("looking at every job once more and fetching every result")
    await load.look_for_the_last_time()
    for kept in scene.stack.keeper.parts.values():
        await kept.wait_ready(RESTART_SECONDS)


def _count(scene: Scene, report: Report) -> None:
    load = scene.load
    report.accepted = load.accepted()
    report.statuses = Counter(str(look.status) if (look := one.last_look) else "unseen" for one in load.histories)
    known = {job_id for history in load.histories for job_id in history.job_ids}
    report.violations = check(load.histories)
    report.violations["stray_rows"] = sorted(scene.rows.job_ids() - known)
    report.violations["disorder"] = scene.rows.disorder()
    report.violations["never_fired"] = [one.name for one in report.aftermaths if not one.proof]
    report.violations["broken_promises"] = [f"{one.name}: {text}" for one in report.aftermaths for text in one.broken]


def orphans(folder: Path) -> list[str]:
    """Return the processes that still run for this run's folder."""
    found, ours = [], {process.pid for process in (psutil.Process(), *psutil.Process().parents())}
    for process in psutil.process_iter():
        if process.pid in ours:
            continue
        try:
            said = [*process.cmdline(), process.environ().get("STOKER_STATE_DIR", "")]
            if any(str(folder) in word for word in said):
                found.append(f"{process.pid} {' '.join(process.cmdline())[:200]}")
        except psutil.Error:
            continue
    return found
