"""One running platform for all acceptance tests; a test that breaks it leaves it running."""

from collections.abc import Iterator

import httpx
import pytest

from tests.acceptance.platform import Platform


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """The platform, started once."""
    made = Platform(tmp_path_factory.mktemp("platform") / ".stoker")
    try:
        made.up()
        yield made
    finally:
        made.call("down")


@pytest.fixture
def http(platform: Platform) -> Iterator[httpx.Client]:
    """A client of the running platform with every scope."""
    with platform.http() as client:
        yield client
