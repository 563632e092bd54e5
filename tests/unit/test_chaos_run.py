"""What the chaos harness decides before and after a run: its jobs, its options, its verdict."""

from collections import Counter
from itertools import islice

import pytest

from schemas.jobs import Status
from tests.chaos.__main__ import read_options, render
from tests.chaos.faults import FAULTS
from tests.chaos.faults.broker import garbage
from tests.chaos.history import digest
from tests.chaos.run import Aftermath, Report
from tests.chaos.workload import TEMPERS, plan_job, plan_jobs
from workers.engines.fake_output import expected_output


def test_a_seed_decides_every_job() -> None:
    first, again, other = (list(islice(plan_jobs(seed), 50)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_the_mixture_has_every_kind_and_every_temper() -> None:
    plans = list(islice(plan_jobs(1), 500))
    assert {plan.body["kind"] for plan in plans} == {"text", "image", "embedding"}
    assert {plan.expected.ends for plan in plans} == {expected.ends for _, expected in TEMPERS.values()}
    assert {code for plan in plans for code in plan.expected.error_codes} == {
        "engine_error",
        "engine_refused",
        "timeout",
    }
    assert any(plan.cancel_after == 0 for plan in plans), "some are canceled at once"


def test_a_plan_knows_the_only_right_answer() -> None:
    plan = plan_job("text", "one", "fake:tokens=3")
    assert plan.expected.output == digest(expected_output("text", plan.body["input"]))
    assert plan.expected.ends == {Status.SUCCEEDED}
    assert set(plan_job("image", "one", "").expected.files) >= {"image-0.png"}


def test_options_have_defaults_and_unknown_faults_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    options = read_options([])
    assert (options.jobs, options.db, options.faults) == (2000, "sqlite", list(FAULTS))
    assert read_options(["--seed", "7", "--faults", "flushall"]).faults == ["flushall"]
    with pytest.raises(SystemExit):
        read_options(["--faults", "flushall,earthquake"])
    assert "there is no fault earthquake" in capsys.readouterr().err


def test_a_run_passes_only_when_it_counted_and_found_nothing() -> None:
    assert not Report().has_passed, "nothing was counted"
    assert Report(violations={"never_ended": [], "changed": []}).has_passed
    assert not Report(violations={"never_ended": [], "changed": ["job_1: it changed"]}).has_passed


def test_evidence_comes_before_the_counts() -> None:
    sentences = [f"job_{number}: it changed" for number in range(12)]
    aftermaths = [Aftermath("flushall", "it fired", "it fired", [], moved_seconds=1.25, flow_seconds=0.5)]
    report = Report(5, Counter({"succeeded": 5}), {"changed": sentences, "never_ended": []}, aftermaths)
    lines = render(report).splitlines()
    assert lines[-3:] == ["accepted: 5", "changed: 12", "never_ended: 0"]
    assert lines[0] == "  changed: job_0: it changed"
    assert "  changed: and 2 more" in lines
    assert "slowest recovery: next finish after 0.5 s, all that ran ended or moved after 1.2 s" in lines


def test_a_fault_without_recovery_is_said_to_have_none() -> None:
    report = Report(violations={"never_ended": []}, aftermaths=[Aftermath("flushall", "it fired", "it fired", [])])
    assert "next finish after inf s" in render(report)


def test_garbage_comes_in_many_shapes() -> None:
    scraps = garbage("text.mill.cpu0")
    assert len(scraps) == len(set(scraps)) >= 10
