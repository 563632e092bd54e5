"""How the API starts, refuses to start, and what operators do at the command line: every refusal is a sentence."""

import io
import json
import os
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from producer_api.commands import parser
from schemas.errors import StartError
from storage.callers import KEY_PREFIX
from storage.database import Database
from storage.versions import newest
from tests.integration.api_server import ROOT, environment, run_command

NOWHERE = "postgresql+psycopg://stoker:sesame@127.0.0.1:1/stoker"
BANNED = ("torch", "qdrant_client", "celery", "kombu", "transformers", "vllm", "numpy")
IMPORT_ALL = """
import importlib, pkgutil, sys
package = importlib.import_module("producer_api")
for found in pkgutil.walk_packages(package.__path__, "producer_api."):
    importlib.import_module(found.name)
print(*sorted(set(sys.argv[1:]) & set(sys.modules)))
"""


def refusal(answer: subprocess.CompletedProcess[str]) -> str:
    """The one sentence of a start that was refused."""
    assert answer.returncode == 1, answer.stdout + answer.stderr
    assert "Traceback" not in answer.stderr
    return answer.stderr.splitlines()[-1]


def test_without_sql_it_waits_then_refuses(tmp_path: Path) -> None:
    answer = run_command(environment(tmp_path, database_url=NOWHERE, database_wait_seconds="0.5"))
    said = refusal(answer)
    assert said.startswith("The database at postgresql+psycopg://stoker:***@127.0.0.1:1/stoker does not answer")
    assert said.endswith("Start it or correct STOKER_DATABASE_URL, then start again.")
    assert "waiting for the database" in answer.stderr
    assert "sesame" not in answer.stderr


def test_a_sweep_that_would_take_uploads_under_way_is_refused(tmp_path: Path, database_url: str) -> None:
    ages = {"orphan_age_seconds": "1800", "upload_seconds": "1800"}
    said = refusal(run_command(environment(tmp_path, database_url=database_url, **ages)))
    assert said == (
        "STOKER_ORPHAN_AGE_SECONDS (1800) must be more than STOKER_UPLOAD_SECONDS (1800), or uploads would be swept "
        "while they are under way. Raise the one or lower the other, then start again."
    )


def test_a_database_without_our_tables_is_refused(tmp_path: Path, sqlite_url: str) -> None:
    said = refusal(run_command(environment(tmp_path, database_url=sqlite_url)))
    assert said == (
        f"The database has schema version none and this code needs {newest()}. "
        "Run `python -m producer_api migrate`, then start again."
    )


def test_a_database_of_a_newer_release_is_refused(tmp_path: Path, database_url: str) -> None:
    with sqlite3.connect(database_url.partition("///")[2]) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    for command in ((), ("migrate",)):
        said = refusal(run_command(environment(tmp_path, database_url=database_url), *command))
        assert said.startswith("The database has schema version 9999, which is newer than this code")


@pytest.mark.parametrize(
    ("command", "catalog", "words"),
    [
        (
            (),
            '[models.echo]\nknd = "text"',
            "table [models.echo], key 'knd': There is no such key; did you mean 'kind'?",
        ),
        (("parts",), "[models.echo\n", "is not valid TOML"),
    ],
)
def test_a_catalog_with_a_mistake_is_refused(
    tmp_path: Path, database_url: str, command: tuple[str, ...], catalog: str, words: str
) -> None:
    path = tmp_path / "models.toml"
    path.write_text(catalog)
    said = refusal(run_command(environment(tmp_path, database_url=database_url), *command))
    assert said.startswith(f"The catalog {path}")
    assert words in said


@pytest.mark.parametrize("command", [(), ("parts",)])
def test_a_setting_with_a_mistake_is_refused(tmp_path: Path, database_url: str, command: tuple[str, ...]) -> None:
    told = environment(tmp_path, database_url=database_url, wait_limit_seconds="soon")
    said = refusal(run_command(told, *command))
    assert said.startswith("The setting STOKER_WAIT_LIMIT_SECONDS is not usable")


def test_a_taken_port_is_refused(tmp_path: Path, database_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = refusal(run_command(environment(tmp_path, database_url=database_url, api_port=port)))
    assert said.startswith(f"The API cannot listen on 127.0.0.1:{port} (")
    assert "set STOKER_API_HOST and STOKER_API_PORT" in said


def test_migrations_bring_the_tables_and_may_run_again(tmp_path: Path, sqlite_url: str) -> None:
    told = environment(tmp_path, database_url=sqlite_url)
    for _ in range(2):
        answer = run_command(told, "migrate")
        assert (answer.returncode, answer.stdout) == (0, f"The database has schema version {newest()}.\n")


def operate(database: Database, *words: str) -> str:
    """What a command about keys prints; the processes around it are the other tests' business."""
    arguments = parser().parse_args(["keys", *words])
    return str(arguments.run(database, arguments))


def check(database: Database, key: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{key}\n"))
    return operate(database, "check")


def test_keys_are_made_checked_listed_and_revoked(api_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    made = json.loads(operate(api_database, "ensure", "--name", "local", "--json"))
    limited = operate(api_database, "create", "--caller", "bob", "--name", "ci", "--scopes", "submit,read")
    assert made["key"].startswith(KEY_PREFIX)
    for key in (made["key"], limited):
        check(api_database, key, monkeypatch)
    listed = operate(api_database, "list")
    assert made["key"] not in listed
    lines = [line.split("\t") for line in listed.splitlines()]
    assert [line[2:] for line in lines] == [
        ["bob", "ci", "read,submit", "valid"],
        ["local", "local", "admin,read,submit", "valid"],
    ]
    operate(api_database, "revoke", made["id"])
    with pytest.raises(StartError, match="This key is unknown, revoked"):
        check(api_database, made["key"], monkeypatch)
    assert "revoked" in operate(api_database, "list")
    with pytest.raises(StartError, match="There is no key 'key_x'"):
        operate(api_database, "revoke", "key_x")


def test_a_key_from_the_command_line_opens_the_api(tmp_path: Path, database_url: str) -> None:
    told = environment(tmp_path, database_url=database_url)
    key = run_command(told, "keys", "create", "--caller", "bob", "--name", "ci").stdout
    assert run_command(told, "keys", "check", given=key).returncode == 0


def test_a_key_that_expires_says_until_when(api_database: Database) -> None:
    operate(api_database, "create", "--caller", "bob", "--name", "x", "--expires-in-days", "1")
    assert "\tuntil 20" in operate(api_database, "list")


def test_unknown_scopes_are_named(api_database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        operate(api_database, "ensure", "--name", "x", "--scopes", "god")
    assert "scopes are a list of submit, read, admin" in capsys.readouterr().err


def test_a_reader_who_leaves_sees_no_traceback(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)  # as `head` does when it has seen enough
    with os.fdopen(writer, "wb") as output:
        command = [sys.executable, "-m", "producer_api", "parts", "--procfile"]
        done = subprocess.run(
            command, cwd=ROOT, env=environment(tmp_path), stdout=output, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (1, b"")


def test_parts_and_openapi_need_no_database(tmp_path: Path) -> None:
    told = environment(tmp_path, database_url=NOWHERE)
    parts = json.loads(run_command(told, "parts", "--json").stdout)["parts"]
    assert [part["name"] for part in parts][:2] == ["api", "worker-echo-cpu0"]
    assert json.loads(run_command(told, "openapi").stdout)["info"]["title"] == "Stoker"


def test_the_api_process_stays_light() -> None:
    answer = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, *BANNED],
        cwd=ROOT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.split() == []
