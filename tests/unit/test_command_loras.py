"""`stoker loras`, and adapters of both clients, against a scripted API: what is sent and what is printed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stoker import AsyncStoker, Stoker, StokerError
from stoker.commands.parser import parse
from stoker.commands.run import run
from tests.scripted_api import Reply, ScriptedApi, error

Command = Callable[..., int]


def lora(name: str = "comic", **changes: Any) -> dict[str, Any]:
    """An adapter as the API would show it."""
    return {
        "id": f"lora_{name}",
        "object": "lora",
        "name": name,
        "base_model": "sketch",
        "kind": "image",
        "rank": 8,
        "bytes": 240_472,
        "sha256": "0" * 64,
        "shared": False,
        "source": "upload",
        "description": "",
        "resident_on": [],
        "created_at": "2026-11-21T12:00:00.000Z",
    } | changes


def page(*found: dict[str, Any], after: str | None = None) -> Reply:
    return Reply(body={"object": "list", "data": list(found), "has_more": after is not None, "next_cursor": after})


@pytest.fixture
def stoker(api: ScriptedApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Run a command in this process, in an empty folder; the exit code."""
    monkeypatch.setenv("STOKER_URL", api.url)
    monkeypatch.setenv("STOKER_API_KEY", "sk-test")
    monkeypatch.setattr("stoker.commands.run.FIRST_PATIENCE_SECONDS", 0)
    monkeypatch.chdir(tmp_path)
    return lambda *words: run(parse(words), colour=False)


@pytest.mark.parametrize("words", [("loras",), ("loras", "list")])
def test_adapters_are_listed_whoever_they_belong_to(
    api: ScriptedApi, stoker: Command, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    night = lora("night", id="night", source="catalog", shared=True, resident_on=["image.sketch.cpu0"])
    api.on("GET", "/v1/loras", page(night, after="sketch:night"), page(lora(), lora("ink", shared=True, rank=None)))
    assert stoker(*words) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in said[1:]] == [
        ["night", "night"],
        ["lora_comic", "comic"],
        ["lora_ink", "ink"],
    ]
    assert said[1].split()[-2:] == ["catalog", "image.sketch.cpu0"]
    assert ("you" in said[2], "everybody" in said[3]) == (True, True)
    assert [seen.query.get("after") for seen in api.seen] == [None, "sketch:night"]


def test_a_list_may_be_about_one_model_and_for_scripts(
    api: ScriptedApi, stoker: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    api.on("GET", "/v1/loras", page())
    assert stoker("loras", "list", "--model", "sketch", "--json") == 0
    assert json.loads(capsys.readouterr().out) == []
    assert api.seen[0].query["model"] == "sketch"


def test_an_adapter_is_added(
    api: ScriptedApi, stoker: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "My Comic!.safetensors").write_bytes(b"weights")
    api.on("POST", "/v1/loras", Reply(201, lora()))
    assert stoker("loras", "add", "My Comic!.safetensors", "--model", "sketch") == 0
    told = capsys.readouterr()
    assert told.out == "lora_comic\n"
    assert "comic is an adapter of sketch now, of rank 8." in told.err
    body = api.seen[0].body
    assert b'name="name"\r\n\r\nmy-comic\r\n' in body
    assert b'name="model"\r\n\r\nsketch\r\n' in body
    assert b"weights" in body
    assert b"alpha" not in body


def test_a_text_adapters_folder_brings_its_alpha(api: ScriptedApi, stoker: Command, tmp_path: Path) -> None:
    folder = tmp_path / "pirate"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    (folder / "adapter_config.json").write_text('{"lora_alpha": 16}')
    api.on("POST", "/v1/loras", Reply(201, lora()))
    assert stoker("loras", "add", "pirate", "--model", "chat", "--shared") == 0
    assert b'name="alpha"\r\n\r\n16.0\r\n' in api.seen[0].body
    assert b'name="shared"\r\n\r\ntrue\r\n' in api.seen[0].body
    assert stoker("loras", "add", "pirate", "--model", "chat", "--name", "p", "--alpha", "4") == 0
    assert b'name="alpha"\r\n\r\n4.0\r\n' in api.seen[1].body


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nothing", "There is no file nothing."),
        (".", "has no .safetensors files; name the file of an adapter"),
    ],
)
def test_what_is_no_file_is_not_sent(
    api: ScriptedApi, stoker: Command, capsys: pytest.CaptureFixture[str], name: str, said: str
) -> None:
    assert stoker("loras", "add", name, "--model", "sketch") == 1
    assert said in capsys.readouterr().err
    assert api.seen == []


def test_a_file_that_cannot_be_read_is_named(
    stoker: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "odd" / "odd.safetensors").mkdir(parents=True)
    assert stoker("loras", "add", "odd", "--model", "sketch") == 1
    assert "odd.safetensors cannot be read: Is a directory." in capsys.readouterr().err


def test_a_refusal_is_said(
    api: ScriptedApi, stoker: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"weights")
    api.on("POST", "/v1/loras", error(422, "invalid", "The file is a Python pickle."))
    assert stoker("loras", "add", "a.safetensors", "--model", "sketch") == 1
    assert "The file is a Python pickle." in capsys.readouterr().err


def test_an_adapter_is_deleted(api: ScriptedApi, stoker: Command, capsys: pytest.CaptureFixture[str]) -> None:
    api.on("DELETE", "/v1/loras/lora_comic", Reply(body={"id": "lora_comic", "object": "lora", "deleted": True}))
    assert stoker("loras", "delete", "lora_comic") == 0
    assert "lora_comic is deleted" in capsys.readouterr().out


def test_an_adapter_is_deleted_by_its_name(api: ScriptedApi, stoker: Command) -> None:
    shared = lora(id="lora_everybodys", shared=True)
    api.on("GET", "/v1/loras", page(lora("ink"), shared, lora()))
    api.on("DELETE", "/v1/loras/lora_comic", Reply(body={"id": "lora_comic", "object": "lora", "deleted": True}))
    assert stoker("loras", "delete", "comic") == 0


def test_a_name_of_several_adapters_deletes_none(
    api: ScriptedApi, stoker: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    api.on("GET", "/v1/loras", page(lora(), lora(id="lora_other", base_model="chat")))
    assert stoker("loras", "delete", "comic") == 1
    assert "by its id: lora_comic of sketch, lora_other of chat." in capsys.readouterr().err
    assert [seen.method for seen in api.seen] == ["GET"]


async def test_both_clients_do_the_same(api: ScriptedApi, tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"weights")
    api.on("POST", "/v1/loras", Reply(201, lora()))
    api.on("GET", "/v1/loras", page(lora()))
    api.on("GET", "/v1/loras/lora_comic", Reply(body=lora()))
    api.on("DELETE", "/v1/loras/lora_comic", Reply(body={}))
    with Stoker(api.url, "sk-test") as client:
        made = client.loras.add(tmp_path, model="sketch", name="comic")
        assert (made.id, client.loras.list(kind="image"), client.loras.get(made.id)) == ("lora_comic", [made], made)
        client.loras.delete(made.id)
        with pytest.raises(StokerError, match="There is no file"):
            client.loras.add("nowhere", model="sketch", name="comic")
    async with AsyncStoker(api.url, "sk-test") as client:
        assert await client.loras.add(tmp_path, model="sketch", name="comic") == made
        assert (await client.loras.list(), await client.loras.get(made.id)) == ([made], made)
        await client.loras.delete(made.id)
    assert [seen.method for seen in api.seen] == ["POST", "GET", "GET", "DELETE"] * 2
