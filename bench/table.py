"""The comparison as a table for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from bench.rounds import Summary
from schemas.base import JsonObject

VOID_ABOVE_MS = 3.0
OBJECTS = "S3 server"


@dataclass(frozen=True)
class Side:
    """All that is known of one peer."""

    name: str
    summary: Summary
    idle_percent: dict[str, float]
    resident_mebibytes: dict[str, float]
    put_ms: float = 0.0
    """What the worker's share of an object put costs, measured apart."""

    @property
    def job_ms(self) -> float:
        """The CPU of one job in all processes, without what the object put costs on either side."""
        cpu = self.summary.cpu_ms_per_job
        return sum(ms for name, ms in cpu.items() if name != OBJECTS) - self.put_ms


@dataclass(frozen=True)
class Comparison:
    """Both sides of one run, and how slow the machine was meanwhile (1: as the reference machine)."""

    naive: Side
    stoker: Side
    slowness: float = 1.0

    @property
    def naive_reference_ms(self) -> float:
        """What a job of the naive peer would take on the reference machine."""
        return self.naive.job_ms / self.slowness

    @property
    def is_void(self) -> bool:
        """Whether the naive peer is so badly written that being cheaper proves nothing."""
        return self.naive_reference_ms > VOID_ABOVE_MS

    def as_json(self) -> JsonObject:
        """Return everything, with the ratios."""
        ratios = {"submit_ratio": self.submit_ratio, "job_ratio": self.job_ratio}
        return {**asdict(self), **ratios, "naive_reference_ms": self.naive_reference_ms, "void": self.is_void}

    @property
    def submit_ratio(self) -> float:
        """Stoker's CPU of a submit in the API process, as a share of the naive peer's."""
        return self.stoker.summary.cpu_ms_per_job["API"] / self.naive.summary.cpu_ms_per_job["API"]

    @property
    def job_ratio(self) -> float:
        """Stoker's CPU of a whole job, as a share of the naive peer's."""
        return self.stoker.job_ms / self.naive.job_ms


def render(comparison: Comparison) -> str:
    """Lay the comparison out in columns."""
    sides = (comparison.naive, comparison.stoker)
    said = [side.summary for side in sides]
    lines = [f"{'':<44}{sides[0].name:>12}{sides[1].name:>12}", "CPU-ms per no-op job, 16 clients"]
    lines += _processes([one.cpu_ms_per_job for one in said], 2)
    lines.append(_line("  object put in the worker, measured apart", [side.put_ms for side in sides]))
    lines.append(_line("  whole job without the object put", [side.job_ms for side in sides]))
    lines.append(_line("jobs per second", [one.jobs_per_second for one in said], 0))
    for percentile in ("p50", "p99"):
        lines.append(_line(f"submit ms, 16 clients, {percentile}", [one.submit_ms_crowd[percentile] for one in said]))
        lines.append(_line(f"submit ms, 1 client, {percentile}", [one.submit_ms_alone[percentile] for one in said]))
        lines.append(_line(f"submit to result ms, idle, {percentile}", [one.result_ms[percentile] for one in said]))
    lines.append(_line("resident MiB", [sum(side.resident_mebibytes.values()) for side in sides], 0))
    lines += _processes([side.resident_mebibytes for side in sides], 0)
    lines.append(_line("idle, % of a core", [sum(side.idle_percent.values()) for side in sides], 1))
    lines += _processes([side.idle_percent for side in sides], 1)
    return "\n".join([*lines, "", _verdict(comparison)])


def _processes(figures: Sequence[Mapping[str, float]], digits: int) -> list[str]:
    names = dict.fromkeys(name for one in figures for name in one)
    return [_line(f"  {name}", [one.get(name) for one in figures], digits) for name in names]


def _line(label: str, values: Sequence[float | None], digits: int = 2) -> str:
    cells = ("" if value is None else f"{value:.{digits}f}" for value in values)
    return f"{label:<44}{''.join(f'{cell:>12}' for cell in cells)}".rstrip()


def _verdict(comparison: Comparison) -> str:
    ratios = f"submit {comparison.submit_ratio:.2f}x, whole job {comparison.job_ratio:.2f}x of the naive peer's CPU"
    notes = (
        "Submit is the CPU of the API process. The whole job leaves out the S3 server and subtracts the worker's\n"
        "put, which was measured apart: an estimate. The naive peer keeps its results in Redis and polls for them."
    )
    speed = (
        f"this machine took {comparison.slowness:.2f}x the reference machine's time for the same Python; there the "
        f"naive peer\nwould take {comparison.naive_reference_ms:.2f} CPU-ms"
    )
    if comparison.is_void:
        speed += f": VOID, above {VOID_ABOVE_MS} it is no fair peer; see what slows it down and measure again"
    return f"{notes}\n{ratios}\n{speed}"
