"""Who runs beside whom: `make test` runs a few lanes at a time, each in a process of its own, its tests in a row."""

import os
from fnmatch import fnmatchcase

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

SHARED = {
    "faults": ("tests/chaos/*",),
    "demo platform": (
        "tests/acceptance/test_*_page.py::*",
        "tests/acceptance/test_openai_client.py::*",
        "tests/acceptance/test_readme.py::*",
        "tests/acceptance/test_webhooks.py::test_the_first_webhook_arrives_as_written",
    ),
    "platform": ("tests/acceptance/*",),
    "vllm": (
        "tests/contract/test_engine.py::*",
        "tests/integration/test_text_*.py::*",
    ),
}
"""Tests that share what takes long to start, or that would starve each other; the first pattern that fits counts."""
MOST_AT_ONCE = 6


def lane_of(test: str) -> str:
    """Where a test runs: with those it shares something with, else with the rest of its file."""
    lanes = (lane for lane, patterns in SHARED.items() if any(fnmatchcase(test, pattern) for pattern in patterns))
    return next(lanes, test.partition("::")[0])


class Lanes(LoadScopeScheduling):
    """Gives out lanes in the order in which their first tests are named."""

    def _split_scope(self, nodeid: str) -> str:
        return lane_of(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Lanes:
    """Let lanes be run, longest first: the tiers are named in that order."""
    config.option.loadscopereorder = False
    return Lanes(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One lane more than there are cores, for tests often wait for processes."""
    return min((os.cpu_count() or 1) + 1, MOST_AT_ONCE)
