"""One platform for all acceptance tests, started when the first asks for it."""

from collections.abc import Iterator

import httpx
import pytest

from tests.acceptance.platform import DEMO_CATALOG, Platform


@pytest.fixture(scope="session")
def one_platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """The one platform, whether it runs or not."""
    made = Platform(tmp_path_factory.mktemp("platform") / ".stoker")
    yield made
    made.call("down")


@pytest.fixture
def platform(one_platform: Platform) -> Platform:
    """The platform, running; a test may stop it or kill it."""
    if not one_platform.is_running:
        one_platform.up()
    return one_platform


@pytest.fixture
def http(platform: Platform) -> Iterator[httpx.Client]:
    """A client of the running platform with every scope."""
    with platform.http() as client:
        yield client


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """The platform that a reader of the pages has: with the real models of the demo catalog."""
    made = Platform(tmp_path_factory.mktemp("demo") / ".stoker", DEMO_CATALOG)
    made.up()
    yield made
    made.call("down")
