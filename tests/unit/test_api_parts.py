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
from tests.architecture.source import ROOT, project
from workers.settings import WorkerSettings

SECRET = re.compile(r"(PASSWORD|SECRET|ACCESS_KEY|AUTH|secretKey)\b.*:")
STORES = {"redis", "postgres", "s3"}
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
    assert compose["services"].keys() == expected.keys() | STORES | {"migrate"}
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


def test_compose_gives_nobody_more_rights_than_needed(compose: dict[str, Any]) -> None:
    ours = [service for service in compose["services"].values() if "build" in service]
    assert len(ours) == len(compose["services"]) - len(STORES)
    for service in ours:
        assert service["build"]["dockerfile_inline"].rstrip().endswith("USER stoker")
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_compose_lets_nobody_write_but_where_they_may(ours: Catalog, compose: dict[str, Any]) -> None:
    """The root is read-only, and a tmpfs has the rights of the folder below it, so /tmp is the one that fits."""
    for row in table(ours):
        service = compose["services"][row.name]
        assert service["tmpfs"] == ["/tmp"]  # noqa: S108 - a path in a container
        [kept] = service["volumes"]
        assert kept.partition(":")[2] == "/state"
        assert service["environment"]["HOME"] == "/state"


def test_compose_knows_who_is_ready_as_the_table_does(ours: Catalog, compose: dict[str, Any]) -> None:
    for row in table(ours):
        service = compose["services"][row.name]
        test = " ".join(service["healthcheck"]["test"])
        if row.ready["kind"] == "http":
            assert row.ready["path"] in test
        else:
            assert test == f"CMD test -e {service['environment']['STOKER_READY_FILE']}"
            assert row.own or f"--pidfile={service['environment']['STOKER_READY_FILE']}" in service["command"]


def test_compose_lets_no_log_grow_for_ever(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert service["logging"]["options"].keys() == {"max-size", "max-file"}


def test_only_what_runs_gets_into_the_images(compose: dict[str, Any]) -> None:
    """Whatever else lies in the folder, such as secrets under any name, stays out."""
    first, *rest = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    let_in = {line.removeprefix("!") for line in rest if line.startswith("!")}
    packages = {name.partition(".")[0] for name in project()["tool"]["setuptools"]["packages"]}
    assert first == "*"
    assert let_in == packages | {"LICENSE", "models", "models*.toml", "requirements*.lock"}
    for service in compose["services"].values():
        copied = re.findall(
            r"^COPY (requirements\S+)", service.get("build", {}).get("dockerfile_inline", ""), re.MULTILINE
        )
        assert all((ROOT / name).is_file() for name in copied)


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


def test_the_example_offers_all_that_compose_asks_for() -> None:
    asked = set(re.findall(r"(?<!\$)\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))
    offered = set(re.findall(r"^(STOKER_\w+)=$", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert "STOKER_PUBLISH" in asked
    assert asked <= offered
