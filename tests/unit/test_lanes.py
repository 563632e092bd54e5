"""Lanes: what shares something runs in a row, and what is new finds its place by itself."""

import pytest

from tests.architecture.source import ROOT
from tests.lanes import lane_of

SHARED = {"demo: Platform": "demo platform", "real_decoder": "vllm"}


@pytest.mark.parametrize(
    ("test", "lane"),
    [
        ("tests/unit/test_ids.py::test_one[a::b]", "tests/unit/test_ids.py"),
        ("tests/chaos/test_chaos.py::test_one[sqlite]", "faults"),
        ("tests/acceptance/test_webhooks.py::test_one", "platform"),
        ("tests/acceptance/test_webhooks.py::test_the_first_webhook_arrives_as_written", "demo platform"),
        ("tests/acceptance/test_new.py::test_one", "platform"),
        ("tests/acceptance/test_new_page.py::test_one[1]", "demo platform"),
    ],
)
def test_a_test_runs_with_those_it_shares_something_with(test: str, lane: str) -> None:
    assert lane_of(test) == lane


@pytest.mark.parametrize("fixture", SHARED)
def test_whoever_asks_for_what_takes_long_to_start_is_in_its_lane(fixture: str) -> None:
    files = [path for path in (ROOT / "tests").glob("*/test_*.py") if fixture in path.read_text()]
    lanes = {path.name: lane_of(f"{path.relative_to(ROOT)}::test_one") for path in files}
    del lanes["test_lanes.py"]
    assert len(lanes) > 1
    assert {name for name, lane in lanes.items() if lane != SHARED[fixture]} <= {"test_webhooks.py"}  # it has both
