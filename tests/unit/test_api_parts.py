"""The table of parts: the supervisor, the Procfile and docker-compose.yml run the same programs."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # its stubs would be one more dependency for one file

from producer_api.parts import container_commands, procfile, table, table_as_json
from producer_api.settings import ApiSettings
from schemas.catalog import Catalog
from schemas.settings import PREFIX
from stoker.parts import check_needs, read_parts, read_remark
from storage.catalog import read_catalog
from storage.settings import StorageSettings
from tasks.settings import TaskSettings
from tests.api import catalog
from workers.settings import WorkerSettings

SECRET = re.compile(r"(PASSWORD|SECRET|ACCESS_KEY|AUTH|secretKey)\b.*:")
ROOT = Path(__file__).resolve().parents[2]
PLACEHOLDERS = {"state": "/s", "ready_file": "/r", "flower_port": "1", "api_port": "2"}


@pytest.fixture(scope="module")
def ours() -> Catalog:
    """The catalog of this repository."""
    return read_catalog(str(ROOT / "models.toml"))


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """What docker-compose.yml says."""
    said: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return said


def test_every_placement_has_a_worker() -> None:
    assert [row.name for row in table(catalog())] == [
        "api",
        "worker-echo-cpu0",
        "worker-sketch-cpu0",
        "worker-twin-cpu0",
        "worker-twin-cpu1",
        "maintenance",
        "beat",
        "flower",
    ]


def test_the_supervisor_can_read_the_table_and_fill_every_blank() -> None:
    parts = read_parts(table_as_json(catalog()))
    check_needs(parts)
    assert [part.name for part in parts] == [row.name for row in table(catalog())]
    assert [word for part in parts for word in part.command_line(PLACEHOLDERS) if "{" in word] == []
    assert {part.name for part in parts if not part.own} == {"beat", "flower"}


def test_what_is_remarked_beside_the_table_reaches_the_supervisor() -> None:
    assert read_remark(table_as_json(catalog())) == ""
    assert read_remark(table_as_json(catalog(), "Mind the step.")) == "Mind the step."


def test_workers_have_the_time_to_fetch_a_model() -> None:
    seconds = {part.name: part.start_seconds for part in read_parts(table_as_json(catalog()))}
    assert {name for name, limit in seconds.items() if limit >= 3600} == {  # as long as 20 GB take at 50 Mbit/s
        "worker-echo-cpu0",
        "worker-sketch-cpu0",
        "worker-twin-cpu0",
        "worker-twin-cpu1",
    }


def test_flower_is_kept_small_and_listens_on_loopback_unless_it_is_in_a_container() -> None:
    [flower] = [part for part in json.loads(table_as_json(catalog()))["parts"] if part["name"] == "flower"]
    assert "--address=127.0.0.1" in flower["command"]
    assert {"--read-only", "--max-tasks=5000"} <= set(flower["command"])
    assert "--address=" in container_commands(catalog())["flower"]


def test_the_procfile_is_the_table(ours: Catalog) -> None:
    assert (ROOT / "Procfile").read_text() == procfile(ours)


def test_compose_runs_the_table(ours: Catalog, compose: dict[str, Any]) -> None:
    expected = container_commands(ours)
    stores = {"redis", "postgres", "s3", "migrate"}
    assert compose["services"].keys() == expected.keys() | stores
    assert {name: compose["services"][name]["command"] for name in expected} == expected
    assert compose["services"]["migrate"]["command"] == ["python", "-m", "producer_api", "migrate"]


def test_compose_keeps_what_engines_fetched(compose: dict[str, Any]) -> None:
    engines = [service for service in compose["services"].values() if service.get("image") == "stoker-engine"]
    assert engines
    for service in engines:
        [kept] = [volume.partition(":")[2] for volume in service["volumes"]]
        assert all(
            Path(service["environment"][name]).parent == Path(kept) for name in ("STOKER_WEIGHTS_DIR", "HF_HOME")
        )


def test_compose_gives_a_draining_worker_the_time_it_needs(ours: Catalog, compose: dict[str, Any]) -> None:
    for row in table(ours):
        allowed = compose["services"][row.name].get("stop_grace_period", "10s")
        assert int(allowed.removesuffix("s")) == row.stop_seconds
        if row.name.startswith("worker-"):
            assert row.stop_seconds > TaskSettings().drain_seconds


def test_compose_publishes_the_api_alone(compose: dict[str, Any]) -> None:
    assert [name for name, service in compose["services"].items() if "ports" in service] == ["api"]


def test_compose_hands_what_is_in_the_env_file_to_every_part(ours: Catalog, compose: dict[str, Any]) -> None:
    for name in (*container_commands(ours), "migrate"):
        assert compose["services"][name]["env_file"] == ".env", name


def test_compose_sets_only_settings_that_exist(compose: dict[str, Any]) -> None:
    classes = (ApiSettings, StorageSettings, TaskSettings, WorkerSettings)
    known = {PREFIX + name.upper() for settings in classes for name in settings.model_fields}
    set_there = {
        name
        for service in compose["services"].values()
        for name in service.get("environment", {})
        if name.startswith(PREFIX)
    }
    assert "STOKER_DATABASE_URL" in set_there
    assert set_there <= known


def test_compose_holds_no_secret(compose: dict[str, Any]) -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    secret = [line for line in text.splitlines() if SECRET.search(line)]
    assert secret
    assert [line for line in secret if "${" not in line] == []
    asked = set(re.findall(r"\$\{(STOKER_\w+):\?", text))
    offered = set(re.findall(r"^(STOKER_\w+)=$", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert asked <= offered
