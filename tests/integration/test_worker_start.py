"""A worker that cannot start says why in a sentence; one that can, starts without Redis and objects."""

import pytest

from storage.database import Database
from tests.integration.site import CATALOG, Process, Site, until

NOWHERE = "127.0.0.1:1"


def refusal(process: Process) -> str:
    """The last line of a process that refused to start."""
    assert process.wait() == 1, process.said()
    assert "Traceback" not in process.said()
    return process.said().splitlines()[-1]


@pytest.mark.parametrize(
    ("catalog", "arguments", "said"),
    [
        (CATALOG, ("--model", "eco"), "The catalog has no model 'eco'. Known models: echo."),
        (CATALOG, ("--model", "echo", "--device", "gpu7"), "does not place 'echo' on 'gpu7', only on cpu0, cpu1."),
        (CATALOG.replace('"fake"', '"warp"'), ("--model", "echo"), "Known engines: "),
        (CATALOG.replace("decode_step_ms", "speed"), ("--model", "echo"), "[models.echo], key 'options.speed'"),
        (CATALOG.replace("max_in_flight", "max"), ("--maintenance",), "table [models.echo], key 'max'"),
        ("", ("--maintenance",), "has no model"),
    ],
)
def test_a_mistake_is_named(site: Site, catalog: str, arguments: tuple[str, ...], said: str) -> None:
    site.catalog.write_text(catalog)
    assert said in refusal(site.start("workers", *arguments))


def test_a_wrong_setting_is_named(site: Site) -> None:
    said = refusal(site.start("workers", "--maintenance", lease_seconds="soon"))
    assert said.startswith("The setting STOKER_LEASE_SECONDS is not usable")


def test_a_database_that_does_not_answer_is_waited_for_and_then_named(site: Site) -> None:
    url = f"postgresql+psycopg://nobody@{NOWHERE}/stoker"
    process = site.start("workers", "--model", "echo", database_url=url)
    assert f"The database at {url} does not answer" in refusal(process)
    assert "waiting for the database" in process.said()


def test_a_database_without_a_schema_is_named(site: Site) -> None:
    url = f"sqlite+pysqlite:///{site.folder / 'empty.db'}"
    Database(url).close()
    assert "Run `python -m producer_api migrate`" in refusal(site.start("workers", "--maintenance", database_url=url))


def test_it_starts_without_redis_and_objects_and_says_so(site: Site) -> None:
    worker = site.worker(redis_url=f"redis://{NOWHERE}/0", s3_endpoint=f"http://{NOWHERE}")
    assert [row.state for row in site.living()] == ["ready"]
    until(lambda: "Redis cannot be reached" in worker.said(), "it says that Redis is away")


@pytest.mark.parametrize("arguments", [(), ("--model", "echo", "--maintenance")])
def test_the_command_line_wants_one_of_two(site: Site, arguments: tuple[str, ...]) -> None:
    process = site.start("workers", *arguments)
    assert process.wait() == 2
    assert "say either --model ALIAS or --maintenance" in process.said()
