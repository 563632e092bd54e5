"""The library of adapters over HTTP: what is taken, what is refused with its reason, who sees and uses what."""

import hashlib
import io
import pickle
import zipfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from storage.database import Database
from storage.objects.port import adapter_key
from tests.api import Desk, memory_services, open_desk, with_settings
from tests.loras import IMAGE, add, keys, lora_catalog, names, send
from tests.safetensors_files import image_lora, text_lora, weights_file

TEXT = weights_file(text_lora(8))
MIB = 2**20


@pytest.fixture
async def desk(api_database: Database, tmp_path: Path) -> AsyncIterator[Desk]:
    """An API with models that adapters can be made for."""
    async with open_desk(replace(memory_services(api_database), catalog=lora_catalog(tmp_path))) as opened:
        yield opened


async def test_an_uploaded_adapter_lives_its_life(desk: Desk) -> None:
    answer = await send(desk)
    made = answer.json()
    assert answer.status_code == 201, answer.text
    assert made == made | {
        "object": "lora",
        "name": "comic",
        "base_model": "sketch",
        "kind": "image",
        "rank": 4,
        "dtype": "F16",
        "bytes": len(IMAGE),
        "sha256": hashlib.sha256(IMAGE).hexdigest(),
        "shared": False,
        "source": "upload",
        "resident_on": [],
    }
    assert desk.objects.get(adapter_key(made["id"])) == IMAGE
    assert (await desk.client.get(f"/v1/loras/{made['id']}")).json() == made
    gone = await desk.client.delete(f"/v1/loras/{made['id']}")
    assert gone.json() == {"id": made["id"], "object": "lora", "deleted": True}
    for call in (desk.client.get, desk.client.delete):
        assert (await call(f"/v1/loras/{made['id']}")).status_code == 404
    assert await names(desk) == ["night"]


async def test_the_same_upload_is_the_same_adapter(desk: Desk) -> None:
    first, again = await send(desk), await send(desk)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    assert keys(desk) == [adapter_key(first.json()["id"])]
    other = await send(desk, weights_file(image_lora(), fill=1))
    assert other.status_code == 409
    assert f"delete {first.json()['id']} first" in other.json()["error"]["message"]
    assert keys(desk) == [adapter_key(first.json()["id"])]


async def test_the_same_bytes_are_stored_once(desk: Desk) -> None:
    first, second = await add(desk), await add(desk, name="again")
    theirs = await add(desk, headers=desk.bearer("somebody"))
    assert len({first["id"], second["id"], theirs["id"]}) == 3
    assert keys(desk) == [adapter_key(first["id"])]


async def test_a_text_adapter_needs_its_alpha(desk: Desk) -> None:
    refused = await send(desk, TEXT, model="wordy")
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, "alpha")
    assert keys(desk) == []
    made = await add(desk, TEXT, model="wordy", alpha="16")
    assert (made["kind"], made["rank"], made["base_model"]) == ("text", 8, "wordy")
    in_file = await add(desk, weights_file(text_lora(8), metadata={"lora_alpha": "4"}), model="wordy", name="said")
    assert in_file["sha256"] != made["sha256"]


@pytest.mark.parametrize("size", [5 * MIB, 11 * MIB + 3])
async def test_a_large_file_passes_through_in_parts(desk: Desk, size: int) -> None:
    rank = size // (2 * 36 + 32)
    shapes = {"unet.conv_in.lora_A.weight": (rank, 4, 3, 3), "unet.conv_in.lora_B.weight": (16, rank, 1, 1)}
    refused = await send(desk, weights_file(shapes))
    assert f"Its rank is {rank}, and 'sketch' takes adapters up to rank 128." in refused.json()["error"]["message"]
    assert keys(desk) == []


def zip_bomb() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.pkl", bytes(20 * MIB))
    return buffer.getvalue()


Bad = tuple[bytes, dict[str, str], int, str | None, str]
BAD: dict[str, Bad] = {
    "a pickle": (pickle.dumps({"a": [1] * 99}), {}, 422, "file", "Python pickle, which is never opened here"),
    "a zip bomb": (zip_bomb(), {}, 422, "file", "zip archive or a pickle of torch.save"),
    "a text": (b"hello, world, how are you?", {}, 422, "file", "does not begin as a safetensors file does"),
    "a truncated file": (IMAGE[:-1], {}, 422, "file", "cut off or damaged"),
    "only a head": (IMAGE[:-100], {}, 422, "file", "cut off or damaged"),
    "a few bytes": (IMAGE[:100], {}, 422, "file", "ends before its head"),
    "nothing": (b"", {}, 422, "file", "The form has no file, or an empty one"),
    "the wrong base": (weights_file(text_lora()), {}, 422, "file", "2 of its 2 tensors fit no layer of 'sketch'"),
    "what would be loaded in part": (
        weights_file({**image_lora(), "unet.mid_block.to_q.lora_A.weight": (4, 4)}),
        {},
        *(
            422,
            "file",
            "1 of its 7 tensors fit no layer of 'sketch', so it would be loaded in part; the first: 'unet.m",
        ),
    ),
    "another width": (
        weights_file({**image_lora(), "unet.conv_in.lora_A.weight": (4, 9, 3, 3)}),
        {},
        *(422, "file", "made for another model"),
    ),
    "a path for a name": (IMAGE, {"name": "../../etc/passwd"}, 422, "name", "name"),
    "a name with a NUL": (IMAGE, {"name": "a\0b"}, 422, "name", "name"),
    "a long name": (IMAGE, {"name": "a" * 49}, 422, "name", "name"),
    "no name": (IMAGE, {"name": ""}, 422, "name", "name"),
    "a name of the catalog's": (IMAGE, {"name": "night"}, 409, None, "The catalog has an adapter 'night'"),
    "an unknown model": (IMAGE, {"model": "nobody"}, 404, "model", "Known models: echo, sketch, wordy."),
    "a model that takes none": (IMAGE, {"model": "echo"}, 422, "model", "takes no adapters of callers"),
    "the wrong sha256": (IMAGE, {"sha256": "0" * 64}, 422, "sha256", "was expected"),
    "no sha256": (IMAGE, {"sha256": "abc"}, 422, "sha256", "sha256"),
    "an alpha of nothing": (IMAGE, {"alpha": "nan"}, 422, "alpha", "alpha"),
    "an unknown field": (IMAGE, {"rank": "4"}, 422, "rank", "rank"),
    "a rank that is too large": (
        weights_file(text_lora(17)),
        {"model": "wordy", "alpha": "1"},
        *(422, "file", "Its rank is 17, and 'wordy' takes adapters up to rank 16."),
    ),
}


@pytest.mark.parametrize("name", BAD)
async def test_what_cannot_be_an_adapter_is_refused_and_leaves_nothing(desk: Desk, name: str) -> None:
    content, fields, status, param, said = BAD[name]
    answer = await send(desk, content, None, **fields)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert (error["param"], said in error["message"]) == (param, True), error
    assert keys(desk) == []
    assert await names(desk) == ["night"]


async def test_two_gigabytes_are_refused_by_their_length(desk: Desk) -> None:
    async def content() -> AsyncIterator[bytes]:
        yield b"--b"

    headers = {"Content-Length": str(2 * 2**30), "Content-Type": "multipart/form-data; boundary=b"}
    answer = await desk.client.post("/v1/loras", content=content(), headers=headers)
    assert answer.status_code == 413
    assert answer.json()["error"]["message"] == (
        "The request body is larger than 256 MiB; POST /v1/loras/uploads gives an address to which you can PUT a "
        "larger one."
    )
    assert keys(desk) == []


async def test_a_length_that_was_a_lie_is_counted(api_database: Database, tmp_path: Path) -> None:
    services = replace(memory_services(api_database), catalog=lora_catalog(tmp_path))
    async with open_desk(with_settings(services, max_lora_bytes=MIB)) as desk:
        rank = 2 * MIB // 64
        big = weights_file({"unet.a.lora_A.weight": (rank, 32)})
        body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n' + big + b"\r\n--b--\r\n"

        async def content() -> AsyncIterator[bytes]:
            for begin in range(0, len(body), 100_000):
                yield body[begin : begin + 100_000]

        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        answer = await desk.client.post("/v1/loras", content=content(), headers=headers)
        assert answer.status_code == 413, answer.text
        assert answer.json()["error"]["message"].endswith(" MiB; no adapter may be.")  # by no other way either
        assert keys(desk) == []


async def test_an_upload_that_breaks_off_leaves_nothing(desk: Desk) -> None:
    big = weights_file({f"unet.{number}.lora_A.weight": (100, 1000) for number in range(60)})
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n' + big
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = await desk.client.post("/v1/loras", content=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "malformed")
    assert keys(desk) == []


async def test_another_callers_adapter_is_not_there(desk: Desk) -> None:
    made, other = await add(desk), desk.bearer("somebody", ("submit", "read"))
    for call in (desk.client.get, desk.client.delete):
        assert (await call(f"/v1/loras/{made['id']}", headers=other)).status_code == 404
    assert await names(desk, other) == ["night"]
    job = {"kind": "image", "model": "sketch", "input": {"prompt": "a", "adapters": [{"id": made["id"]}]}}
    refused = await desk.client.post("/v1/jobs", json=job, headers=other)
    assert refused.status_code == 422
    assert refused.json()["error"]["message"] == f"'sketch' has no adapter '{made['id']}'. Known adapters: night."
    assert (
        await desk.client.get(f"/v1/loras/{made['id']}", params={"caller": "local"}, headers=other)
    ).status_code == 403
    boss, mine = desk.bearer("boss"), f"/v1/loras/{made['id']}"
    assert await names(desk, boss, caller="local") == ["night", "comic"]
    assert (await desk.client.delete(mine, headers=boss)).status_code == 404
    assert (await desk.client.delete(mine, params={"caller": "local"}, headers=other)).status_code == 403
    assert (await desk.client.delete(mine, params={"caller": "local"}, headers=boss)).status_code == 200


async def test_only_admins_share_and_everybody_uses(desk: Desk) -> None:
    other = desk.bearer("somebody", ("submit", "read"))
    refused = await send(desk, headers=other, shared="true")
    assert (refused.status_code, keys(desk)) == (403, [])
    made = await add(desk, shared="true")
    assert made["shared"]
    assert (await desk.client.get(f"/v1/loras/{made['id']}", headers=other)).json() == made
    assert (await desk.client.delete(f"/v1/loras/{made['id']}", headers=other)).status_code == 404
    job = {"kind": "image", "model": "sketch", "input": {"prompt": "a", "adapters": [{"id": "comic"}]}}
    assert (await desk.client.post("/v1/jobs", json=job, headers=other)).status_code == 202
    assert (await desk.client.delete(f"/v1/loras/{made['id']}")).status_code == 200


@pytest.mark.parametrize("scopes", [("read",), ("submit",)])
async def test_a_key_needs_its_scope(desk: Desk, scopes: tuple[str, ...]) -> None:
    made, headers = await add(desk), desk.bearer("local", scopes)
    sent = await send(desk, headers=headers)
    read = await desk.client.get(f"/v1/loras/{made['id']}", headers=headers)
    gone = await desk.client.delete(f"/v1/loras/{made['id']}", headers=headers)
    assert (sent.status_code, read.status_code, gone.status_code) == (
        (403, 200, 403) if scopes == ("read",) else (200, 403, 200)
    )


async def test_the_list_begins_with_the_catalog_and_is_walked_page_by_page(desk: Desk) -> None:
    for name in ("one", "two", "three"):
        await add(desk, name=name)
    await add(desk, TEXT, name="words", model="wordy", alpha="1")
    whole = ["night", "words", "three", "two", "one"]
    assert await names(desk) == whole
    for limit in (1, 2, 4):
        seen: list[str] = []
        query: dict[str, Any] = {"limit": limit}
        while True:
            page = (await desk.client.get("/v1/loras", params=query)).json()
            seen += [one["name"] for one in page["data"]]
            assert len(page["data"]) <= limit
            if not page["has_more"]:
                break
            query["after"] = page["next_cursor"]
        assert seen == whole
    assert await names(desk, kind="text") == ["words"]
    assert await names(desk, model="sketch", limit=2) == ["night", "three"]
    assert await names(desk, model="nobody") == []
    for wrong in ({"color": "red"}, {"after": "zzz"}, {"limit": "0"}):
        refused = await desk.client.get("/v1/loras", params=wrong)
        assert (refused.status_code, refused.json()["error"]["param"]) == (422, *wrong)
    assert await names(desk, after="sketch:day") == whole[1:]  # the catalog lost it between two pages


async def test_the_catalogs_adapters_are_shown_as_shared(desk: Desk) -> None:
    [shown] = (await desk.client.get("/v1/loras")).json()["data"]
    assert shown == shown | {"id": "night", "shared": True, "source": "catalog", "base_model": "sketch", "rank": 2}
    assert shown["bytes"] == len(weights_file(image_lora(2)))
    assert (await desk.client.get("/v1/loras/night")).json() == shown
    assert (await desk.client.delete("/v1/loras/night")).status_code == 409


async def test_a_dora_is_refused_at_the_door(desk: Desk) -> None:
    said = {"lora_adapter_metadata": '{"unet.use_dora": true}'}
    refused = await send(desk, weights_file(image_lora(), metadata=said))
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, "file")
    assert keys(desk) == []


async def test_workers_do_not_tell_what_others_uploaded(desk: Desk) -> None:
    made = await add(desk)
    desk.worker("image.sketch.cpu0").beat(engine={"adapters": ["night", made["id"]], "batch": 0})
    stranger = desk.bearer("somebody")
    [worker] = (await desk.client.get("/v1/workers", headers=stranger)).json()["data"]
    assert worker["stats"]["engine"] == {"adapters": ["night"], "uploaded_adapters": 1, "batch": 0}
    assert made["id"] not in (await desk.client.get("/v1/queues", headers=stranger)).text


async def test_where_an_adapter_is_in_memory_is_shown(desk: Desk) -> None:
    made = await add(desk)
    for device, adapters in (("cpu0", ["night"]), ("cpu1", ["night", made["id"]])):
        desk.worker(f"image.sketch.{device}").beat(engine={"adapters": adapters})
    desk.app.state.api.dispatcher.forget()
    shown = {one["name"]: one["resident_on"] for one in (await desk.client.get("/v1/loras")).json()["data"]}
    assert shown == {"night": ["image.sketch.cpu0", "image.sketch.cpu1"], "comic": ["image.sketch.cpu1"]}
    model = (await desk.client.get("/v1/models/sketch")).json()
    assert {one["name"]: one["resident_on"] for one in model["adapters"]} == shown
    strangers = await desk.client.get("/v1/models/sketch", headers=desk.bearer("somebody"))
    assert [one["name"] for one in strangers.json()["adapters"]] == ["night"]


async def test_a_model_with_an_uploaded_adapter_can_be_looked_at_by_those_who_may_use_it(desk: Desk) -> None:
    made, address = await add(desk), "/v1/models/sketch:comic"
    model = (await desk.client.get(address)).json()
    told = ("id", "base_model", "description", "adapters")
    assert [model[name] for name in told] == ["sketch:comic", "sketch", "", []]
    assert (await desk.client.get(f"/v1/models/sketch:{made['id']}")).status_code == 200
    strangers = await desk.client.get(address, headers=desk.bearer("somebody"))
    assert (strangers.status_code, strangers.json()["error"]["code"]) == (404, "model_not_found")
    await desk.client.delete(f"/v1/loras/{made['id']}")
    assert (await desk.client.get(address)).status_code == 404


async def test_a_job_goes_where_its_adapters_are_in_memory(desk: Desk) -> None:
    made = await add(desk)
    desk.worker("image.sketch.cpu0", slots=64).beat(engine={"adapters": ["night"]})
    desk.worker("image.sketch.cpu1", slots=64).beat(engine={"adapters": ["night", made["id"]]})
    desk.app.state.api.dispatcher.forget()
    job = {"kind": "image", "model": "sketch", "input": {"prompt": "a", "adapters": [{"id": "comic"}]}}
    queues = {(await desk.client.post("/v1/jobs", json=job)).json()["queue"]["name"] for _ in range(5)}
    assert queues == {"image.sketch.cpu1"}


async def test_jobs_name_their_adapters_by_id_or_name(desk: Desk) -> None:
    made = await add(desk)
    uses = [{"id": "night"}, {"id": "comic", "strength": 0.5}]
    job = {"kind": "image", "model": "sketch", "input": {"prompt": "a", "adapters": uses}}
    row = desk.row((await desk.client.post("/v1/jobs", json=job)).json()["id"])
    assert row.adapters == f"night {made['id']}"
    seen = (await desk.client.get(f"/v1/jobs/{row.id}")).json()["input"]["adapters"]
    assert [one["id"] for one in seen] == ["night", made["id"]]
    twice = [{"id": "comic"}, {"id": made["id"]}]
    refused = await desk.client.post("/v1/jobs", json={**job, "input": {"prompt": "a", "adapters": twice}})
    assert "Two of the names mean the same adapter" in refused.json()["error"]["message"]


async def test_a_text_job_names_one_too(desk: Desk) -> None:
    made = await add(desk, TEXT, model="wordy", alpha="16")
    job = {"kind": "text", "model": "wordy", "input": {"prompt": "a", "adapter": "comic"}}
    row = desk.row((await desk.client.post("/v1/jobs", json=job)).json()["id"])
    assert row.adapters == made["id"]
    unknown = await desk.client.post("/v1/jobs", json={**job, "input": {"prompt": "a", "adapter": "noir"}})
    assert unknown.json()["error"]["message"] == "'wordy' has no adapter 'noir'. Known adapters: comic."
    await desk.client.delete(f"/v1/loras/{made['id']}")
    assert (await desk.client.post("/v1/jobs", json=job)).status_code == 422
    again = await desk.client.post(f"/v1/jobs/{row.id}/cancel")
    assert again.status_code == 200
    assert (await desk.client.post(f"/v1/jobs/{row.id}/retry")).status_code == 422


async def test_nobody_has_more_than_his_share(api_database: Database, tmp_path: Path) -> None:
    services = replace(memory_services(api_database), catalog=lora_catalog(tmp_path))
    async with open_desk(with_settings(services, max_loras_per_caller=2)) as desk:
        await add(desk, name="one")
        await add(desk, name="two")
        refused = await send(desk, name="three")
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many")
        await add(desk, headers=desk.bearer("somebody"))


async def test_a_model_that_cannot_be_read_refuses_nobody_for_good(desk: Desk) -> None:
    sketch = desk.services.catalog.models["sketch"]
    weights = Path(sketch.source) / "unet" / "diffusion_pytorch_model.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(b"")
    assert (await send(desk)).status_code == 503
    weights.write_bytes(kept)
    assert (await send(desk)).status_code == 201
