"""Adapters that do not come in a form: PUT into the store by their callers, fetched from addresses and buckets."""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from schemas.base import JsonObject
from storage.database import Database
from storage.objects.memory import MemoryObjectStore
from storage.objects.port import adapter_key, awaited_key
from tests.api import Desk, memory_services, open_desk, with_settings
from tests.certificates import make_authority
from tests.loras import IMAGE, keys, lora_catalog, names
from tests.receiver import answer, run_receiver
from tests.safetensors_files import image_lora, weights_file


@pytest.fixture
async def desk(api_database: Database, tmp_path: Path) -> AsyncIterator[Desk]:
    """An API with models that adapters can be made for."""
    async with open_desk(replace(memory_services(api_database), catalog=lora_catalog(tmp_path))) as opened:
        yield opened


def sized(content: bytes) -> dict[str, Any]:
    return {"model": "sketch", "name": "comic", "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


async def begin(desk: Desk, content: bytes = IMAGE, **changes: Any) -> Any:
    return await desk.client.post("/v1/loras/uploads", json={**sized(content), **changes})


def put(desk: Desk, told: JsonObject, content: bytes) -> None:
    """What the object store does with a signed PUT."""
    desk.objects.put(awaited_key(told["id"]), content, "application/octet-stream")


async def test_a_large_file_goes_straight_to_the_store(desk: Desk) -> None:
    told = (await begin(desk)).json()
    assert (told["method"], told["headers"]["Content-Length"]) == ("PUT", str(len(IMAGE)))
    early = await desk.client.post(told["complete_url"])
    assert (early.status_code, "PUT them" in early.json()["error"]["message"]) == (409, True)
    put(desk, told, IMAGE)
    assert await names(desk) == ["night"]
    stranger = await desk.client.post(told["complete_url"], headers=desk.bearer("somebody"))
    assert stranger.status_code == 404
    made = await desk.client.post(told["complete_url"])
    assert (made.status_code, made.json()["id"]) == (201, told["id"])
    assert keys(desk) == [adapter_key(told["id"])]
    again = await desk.client.post(told["complete_url"])
    assert (again.status_code, again.json()) == (200, made.json())
    stranger = await desk.client.post(told["complete_url"], headers=desk.bearer("somebody"))
    assert stranger.status_code == 404


async def test_an_upload_that_was_begun_can_be_given_up(desk: Desk) -> None:
    told = (await begin(desk)).json()
    put(desk, told, IMAGE)
    gone = f"/v1/loras/{told['id']}"
    assert (await desk.client.delete(gone, headers=desk.bearer("somebody"))).status_code == 404
    assert (await desk.client.delete(gone)).json() == {"id": told["id"], "object": "lora", "deleted": True}
    assert [
        (await desk.client.delete(gone)).status_code,
        (await desk.client.post(told["complete_url"])).status_code,
    ] == [
        404,
        404,
    ]


async def test_what_was_begun_counts_until_it_is_given_up_or_too_late(api_database: Database, tmp_path: Path) -> None:
    services = replace(memory_services(api_database), catalog=lora_catalog(tmp_path))
    async with open_desk(with_settings(services, max_loras_per_caller=2)) as desk:
        first, _ = (await begin(desk)).json(), await begin(desk)
        refused = await begin(desk)
        assert (refused.status_code, "counts for 60 minutes" in refused.text) == (429, True), refused.text
        await desk.client.delete(f"/v1/loras/{first['id']}")
        assert [(await begin(desk)).status_code, (await begin(desk)).status_code] == [201, 429]
        api_database.transact(lambda c: c.exec_driver_sql("UPDATE adapters SET created_at = created_at - 3601"))
        assert (await begin(desk)).status_code == 201


async def test_what_was_put_is_judged(desk: Desk) -> None:
    other = weights_file(image_lora(), fill=1)
    told = (await begin(desk)).json()
    put(desk, told, other)
    refused = await desk.client.post(told["complete_url"])
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, "sha256")
    assert adapter_key(told["id"]) not in keys(desk)
    put(desk, told, IMAGE)
    assert (await desk.client.post(told["complete_url"])).status_code == 201


@pytest.mark.parametrize(
    ("changes", "status", "param"),
    [
        ({"bytes": 2 * 2**30}, 413, None),
        ({"bytes": 0}, 422, "bytes"),
        ({"model": "nobody"}, 404, "model"),
        ({"model": "wordy"}, 422, "alpha"),
        ({"name": "night"}, 409, None),
        ({"sha256": None}, 422, "sha256"),
        ({"shared": 1}, 422, "shared"),
    ],
)
async def test_what_would_be_refused_gets_no_address(
    desk: Desk, changes: JsonObject, status: int, param: str | None
) -> None:
    answer = await begin(desk, **changes)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param), answer.text


URL_BAD = {
    "loopback": "https://127.0.0.1/x.safetensors",
    "loopback by name": "https://localhost/x.safetensors",
    "loopback in hexadecimal": "https://0x7f000001/x.safetensors",
    "the cloud's metadata": "https://169.254.169.254/latest/meta-data",
    "a private network": "https://10.0.0.1/x.safetensors",
    "IPv6 loopback": "https://[::1]/x.safetensors",
    "plain HTTP": "http://example.com/x.safetensors",
    "a file": "file:///etc/passwd",
    "a bucket that nobody listed": "s3://secrets/x.safetensors",
    "credentials": "https://user:pass@example.com/x.safetensors",
    "another port": "https://example.com:22/x.safetensors",
}


@pytest.mark.parametrize("name", URL_BAD)
async def test_nothing_is_fetched_from_inside(desk: Desk, name: str) -> None:
    wanted = {"model": "sketch", "name": "comic", "url": URL_BAD[name], "sha256": "0" * 64}
    answer = await desk.client.post("/v1/loras/import", json=wanted)
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, "url"), answer.text
    assert answer.json()["error"]["code"] == "url_refused"
    assert keys(desk) == []


async def import_from(desk: Desk, url: str) -> Any:
    wanted = {"model": "sketch", "name": "comic", "url": url, "sha256": hashlib.sha256(IMAGE).hexdigest()}
    return await desk.client.post("/v1/loras/import", json=wanted)


async def test_where_webhooks_may_go_adapters_do_not_come_from(api_database: Database, tmp_path: Path) -> None:
    services = replace(memory_services(api_database), catalog=lora_catalog(tmp_path))
    as_make_up_sets = {"egress_allow": "127.0.0.0/8,::1/128", "egress_ports": "1-65535", "egress_http": True}
    local = replace(services, task_settings=services.task_settings.model_copy(update=as_make_up_sets))
    async with run_receiver() as receiver, open_desk(local) as desk:
        for url in (receiver.url, receiver.url.replace("http", "https"), f"https://localhost:{receiver.port}/"):
            refused = await import_from(desk, url)
            assert (refused.status_code, refused.json()["error"]["code"]) == (422, "url_refused"), refused.text
    assert receiver.connections == 0


async def test_an_adapter_comes_from_where_the_operator_allows(api_database: Database, tmp_path: Path) -> None:
    services = replace(memory_services(api_database), catalog=lora_catalog(tmp_path))
    authority = make_authority(tmp_path / "authority")
    trusting = services.task_settings.model_copy(update={"egress_ca_file": str(authority.file)})
    async with run_receiver(tls=authority.serve_as("localhost")) as receiver:
        receiver.reply = lambda asked: answer(200, IMAGE) if asked.path == "/x" else answer(302, Location="/x")
        allowed = {"lora_egress_allow": "127.0.0.0/8,::1/128", "lora_egress_ports": str(receiver.port)}
        async with open_desk(with_settings(replace(services, task_settings=trusting), **allowed)) as desk:
            moved = await import_from(desk, f"https://localhost:{receiver.port}/")
            assert "It answered with status 302; redirects are not followed." in moved.json()["error"]["message"]
            made = await import_from(desk, f"https://localhost:{receiver.port}/x")
            assert (made.status_code, made.json()["bytes"]) == (201, len(IMAGE))


async def test_an_adapter_comes_from_a_bucket_that_is_listed(api_database: Database, tmp_path: Path) -> None:
    services = replace(memory_services(api_database), catalog=lora_catalog(tmp_path))
    bucket = MemoryObjectStore()
    bucket.put("loras/comic.safetensors", IMAGE, "application/octet-stream")
    bucket.put("private/comic.safetensors", IMAGE, "application/octet-stream")
    services.weights.open_bucket = lambda _: bucket
    async with open_desk(with_settings(services, lora_buckets="s3://shop/loras, s3://other")) as desk:

        async def fetch(url: str, content: bytes = IMAGE) -> Any:
            sha256 = hashlib.sha256(content).hexdigest()
            wanted = {"model": "sketch", "name": "comic", "url": url, "sha256": sha256}
            return await desk.client.post("/v1/loras/import", json=wanted)

        outside = await fetch("s3://shop/private/comic.safetensors")
        assert (outside.status_code, outside.json()["error"]["code"]) == (422, "url_refused")
        missing = await fetch("s3://shop/loras/x.safetensors")
        assert "There is no object of that name." in missing.json()["error"]["message"]
        changed = await fetch("s3://shop/loras/comic.safetensors", b"else")
        assert (changed.status_code, changed.json()["error"]["param"]) == (422, "sha256")
        made = await fetch("s3://shop/loras/comic.safetensors")
        assert (made.status_code, made.json()["bytes"]) == (201, len(IMAGE))
