"""Fixtures of the unit tests: a scripted API, and both clients of it."""

from collections.abc import Iterator

import pytest

from stoker import Stoker
from tests.clients import open_client
from tests.scripted_api import ScriptedApi


@pytest.fixture
def api() -> Iterator[ScriptedApi]:
    """An API that says what the test wrote."""
    with ScriptedApi() as started:
        yield started


@pytest.fixture(params=["blocking", "asynchronous"])
def client(request: pytest.FixtureRequest, api: ScriptedApi, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stoker]:
    """A patient client that loses no time between its tries, of both kinds in turn."""
    monkeypatch.setattr("stoker.client.exchange.FIRST_DELAY_SECONDS", 0.001)
    monkeypatch.setattr("stoker.client.api.PAUSE_SECONDS", 0.001)
    opened = open_client(request.param, api.url)
    yield opened
    opened.close()


@pytest.fixture(params=["blocking", "asynchronous"])
def impatient(request: pytest.FixtureRequest, api: ScriptedApi) -> Iterator[Stoker]:
    """A client that tries nothing twice."""
    opened = open_client(request.param, api.url, patience_seconds=0)
    yield opened
    opened.close()
