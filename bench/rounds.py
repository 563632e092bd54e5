"""One round of one peer, and the medians over its rounds."""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from bench.figures import at
from bench.load import Task, Timings
from bench.peers import Peer
from bench.processes import cpu_seconds

CROWD = 16
MANY_JOBS = 1500
ALONE_JOBS = 150
FOLLOWED_JOBS = 60


@dataclass(frozen=True)
class Round:
    """What was measured, in milliseconds and jobs per second."""

    cpu_ms_per_job: dict[str, float]
    """By process, from the first submit of many to the last finished job."""
    jobs_per_second: float
    submit_ms_crowd: list[float]
    submit_ms_alone: list[float]
    result_ms: list[float]


class Bench:
    """Runs rounds against one peer."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.rounds: list[Round] = []
        self._submitted = 0

    async def warm_up(self) -> None:
        """Let it import, connect and prepare what it does only once."""
        await self._submit(MANY_JOBS // 5, CROWD)

    async def run_round(self) -> None:
        """Measure once; the three loads follow each other."""
        before = self._cpu()
        crowd, jobs_per_second = await self._submit(MANY_JOBS, CROWD)
        after = self._cpu()
        alone, _ = await self._submit(ALONE_JOBS, 1)
        self._submitted += FOLLOWED_JOBS
        followed = await _load(Task(self.peer.target, FOLLOWED_JOBS, 1, follow=True))
        cpu = {name: (after[name] - before[name]) * 1000 / MANY_JOBS for name in before}
        self.rounds.append(Round(cpu, jobs_per_second, crowd.milliseconds, alone.milliseconds, followed.milliseconds))

    async def idle_percent(self, seconds: float) -> dict[str, float]:
        """Return the share of a core that each process takes while nothing happens."""
        before = self._cpu()
        await asyncio.sleep(seconds)
        after = self._cpu()
        return {name: (after[name] - before[name]) / seconds * 100 for name in before}

    async def _submit(self, jobs: int, clients: int) -> tuple[Timings, float]:
        self._submitted += jobs
        timings = await _load(Task(self.peer.target, jobs, clients))
        done_at = await self.peer.wait_done(self._submitted)
        return timings, jobs / (done_at - timings.began_at)

    def _cpu(self) -> dict[str, float]:
        return {name: cpu_seconds(pid) for name, pid in self.peer.pids.items()}


async def _load(task: Task) -> Timings:
    command = [sys.executable, "-m", "bench.load"]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    answer, _ = await process.communicate(json.dumps(asdict(task)).encode())
    if process.returncode != 0:
        raise RuntimeError("the load did not get through; its last words are above")
    return Timings(**json.loads(answer))


@dataclass(frozen=True)
class Summary:
    """Medians over the rounds: of each round's percentile, of each process's CPU."""

    cpu_ms_per_job: dict[str, float]
    jobs_per_second: float
    submit_ms_crowd: dict[str, float]
    submit_ms_alone: dict[str, float]
    result_ms: dict[str, float]


def summarize(rounds: Sequence[Round]) -> Summary:
    """Take the medians."""
    names = rounds[0].cpu_ms_per_job
    return Summary(
        {name: statistics.median(one.cpu_ms_per_job[name] for one in rounds) for name in names},
        statistics.median(one.jobs_per_second for one in rounds),
        _percentiles(one.submit_ms_crowd for one in rounds),
        _percentiles(one.submit_ms_alone for one in rounds),
        _percentiles(one.result_ms for one in rounds),
    )


def _percentiles(rounds: Iterable[Sequence[float]]) -> dict[str, float]:
    series = list(rounds)
    return {name: statistics.median(at(one, share) for one in series) for name, share in (("p50", 0.5), ("p99", 0.99))}
