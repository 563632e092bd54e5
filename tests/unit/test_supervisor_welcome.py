"""The last words of a start can be copied into a shell."""

import json
import shlex
from pathlib import Path

import pytest

from stoker.welcome import welcome

CLIENT = {
    "STOKER_URL": "http://127.0.0.1:8000",
    "STOKER_API_KEY": "sk-secret-and-long",
    "STOKER_FLOWER_URL": "http://stoker:hidden@127.0.0.1:5555",
}


def told(tmp_path: Path, catalog: str) -> str:
    (tmp_path / "models.toml").write_text(catalog)
    return welcome(CLIENT, Path(".stoker/client.env"), tmp_path / "models.toml")


def submitted(text: str) -> dict[str, object]:
    """What the curl line would send."""
    words = shlex.split(text.rpartition("client.env\n")[2].partition("Not done yet?")[0])
    assert words[:3] == ["curl", "-sS", "$STOKER_URL/v1/jobs"]
    job: dict[str, object] = json.loads(words[words.index("-d") + 1])
    return job


def test_it_says_where_without_saying_secrets(tmp_path: Path) -> None:
    text = told(tmp_path, "")
    assert "http://127.0.0.1:8000/docs" in text
    assert "http://127.0.0.1:5555 " in text
    assert "hidden" not in text
    assert "…long " in text
    assert "sk-secret" not in text


def test_the_first_job_is_the_first_models_own_example(tmp_path: Path) -> None:
    catalog = '[models.b]\nkind = "text"\nwarm_up = {prompt = "It\'s \\"on\\" 가"}\n[models.a]\nkind = "image"\n'
    assert submitted(told(tmp_path, catalog)) == {"kind": "text", "model": "b", "input": {"prompt": 'It\'s "on" 가'}}


@pytest.mark.parametrize("kind", ["text", "image", "embedding"])
def test_a_model_without_an_example_gets_one_of_its_kind(tmp_path: Path, kind: str) -> None:
    job = submitted(told(tmp_path, f'[models.only]\nkind = "{kind}"\n'))
    assert (job["kind"], job["model"]) == (kind, "only")
    assert job["input"]


@pytest.mark.parametrize("catalog", ["", "not toml", "models = 3", "[models]", '[models.x]\nkind = "smell"'])
def test_a_catalog_without_a_usable_model_has_no_example(tmp_path: Path, catalog: str) -> None:
    assert "curl" not in told(tmp_path, catalog)
