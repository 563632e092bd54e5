"""What the bench makes of its figures."""

import json
import os

import psutil
import pytest

from bench.processes import cpu_seconds, resident_mebibytes
from bench.rounds import Round, summarize
from bench.speed import measure_slowness
from bench.table import Comparison, Side, render


def a_round(api: float, worker: float, *, milliseconds: float = 1.0) -> Round:
    """Measured CPU per job, and the same time for everything else."""
    many = [milliseconds] * 98 + [10 * milliseconds] * 2
    return Round({"API": api, "worker": worker, "S3 server": 5.0}, 100.0, many, many, many)


def a_side(name: str, api: float, worker: float, put_ms: float = 0.0) -> Side:
    return Side(name, summarize([a_round(api, worker)]), {"API": 0.5}, {"API": 100.0}, put_ms)


def test_a_summary_takes_the_median_round_of_each_figure() -> None:
    rounds = [a_round(1, 6, milliseconds=1), a_round(2, 5, milliseconds=3), a_round(3, 4, milliseconds=2)]
    summary = summarize(rounds)
    assert summary.cpu_ms_per_job == {"API": 2, "worker": 5, "S3 server": 5}
    assert summary.submit_ms_crowd == {"p50": 2, "p99": 20}


def test_the_whole_job_leaves_out_what_the_object_costs() -> None:
    assert a_side("stoker", api=0.4, worker=1.6, put_ms=1.2).job_ms == pytest.approx(0.8)


def test_ratios_are_against_the_naive_peer() -> None:
    comparison = Comparison(a_side("naive", 1.0, 1.0), a_side("stoker", 0.4, 1.6, put_ms=1.2))
    assert comparison.submit_ratio == pytest.approx(0.4)
    assert comparison.job_ratio == pytest.approx(0.4)
    assert not comparison.is_void
    assert "submit 0.40x, whole job 0.40x" in render(comparison)
    assert json.loads(json.dumps(comparison.as_json()))["job_ratio"] == pytest.approx(0.4)


def test_a_slow_naive_peer_makes_the_comparison_void() -> None:
    comparison = Comparison(a_side("naive", 1.5, 1.6), a_side("stoker", 0.4, 0.4))
    assert comparison.is_void
    assert "would take 3.10 CPU-ms: VOID, above 3.0" in " ".join(render(comparison).split())


def test_a_slow_machine_is_no_reason_to_void_a_fair_comparison() -> None:
    sides = (a_side("naive", 2.0, 2.2), a_side("stoker", 0.4, 0.4))
    assert Comparison(*sides).is_void
    fair = Comparison(*sides, slowness=1.5)
    assert not fair.is_void
    assert fair.as_json()["naive_reference_ms"] == pytest.approx(2.8)
    assert "took 1.50x the reference machine's time" in render(fair)
    assert Comparison(a_side("naive", 3.0, 2.2), sides[1], slowness=1.5).is_void


def test_the_machine_s_speed_is_a_number_of_its_own_and_leaves_nothing_open() -> None:
    files = psutil.Process().num_fds()
    assert measure_slowness() > 0.05
    assert psutil.Process().num_fds() == files


def test_every_process_has_a_line_and_a_missing_one_an_empty_cell() -> None:
    naive = Side("naive", summarize([Round({"API": 1.0}, 1, [1], [1], [1])]), {}, {})
    lines = render(Comparison(naive, a_side("stoker", 0.4, 0.4))).splitlines()
    assert next(line.split() for line in lines if line.startswith("  worker")) == ["worker", "0.40"]


def test_cpu_and_memory_of_this_very_process_are_seen() -> None:
    before = cpu_seconds(os.getpid())
    assert sum(range(3_000_000))
    assert cpu_seconds(os.getpid()) > before
    assert resident_mebibytes(os.getpid()) > 10
