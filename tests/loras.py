"""The library of adapters as tests use it: models that adapters can be made for, and short words for the calls."""

from pathlib import Path
from typing import Any

from schemas.base import JsonObject
from schemas.catalog import Catalog, Model
from tests.api import Desk
from tests.safetensors_files import image_base, image_lora, text_base, weights_file

NAME = "comic.safetensors"
IMAGE = weights_file(image_lora())


def lora_catalog(folder: Path) -> Catalog:
    """An image model and a text model that take adapters, and one that takes none."""
    shipped = folder / "night"
    shipped.mkdir()
    (shipped / "weights.safetensors").write_bytes(weights_file(image_lora(2)))
    told: JsonObject = {
        "sketch": {
            "kind": "image",
            "source": image_base(folder / "image"),
            "devices": ["cpu0", "cpu1"],
            "adapters": {"night": {"source": str(shipped), "description": "Dark."}},
        },
        "wordy": {"kind": "text", "source": text_base(folder / "text"), "max_adapter_rank": 16},
        "echo": {"kind": "text", "source": "builtin"},
    }
    common = {"engine": "fake", "devices": ["cpu0"]}
    return Catalog(models={alias: Model.model_validate({"alias": alias, **common, **o}) for alias, o in told.items()})


async def send(desk: Desk, content: bytes = IMAGE, headers: dict[str, str] | None = None, **fields: str) -> Any:
    """Upload an adapter; the answer."""
    form = {"model": "sketch", "name": "comic", **fields}
    return await desk.client.post("/v1/loras", files={"file": (NAME, content)}, data=form, headers=headers)


async def add(desk: Desk, content: bytes = IMAGE, headers: dict[str, str] | None = None, **fields: str) -> JsonObject:
    """Upload an adapter that must be taken."""
    answer = await send(desk, content, headers, **fields)
    assert answer.status_code in (200, 201), answer.text
    told: JsonObject = answer.json()
    return told


def keys(desk: Desk) -> list[str]:
    """Every object there is."""
    return [entry.key for entry in desk.objects.list("", None, 100)]


async def names(desk: Desk, headers: dict[str, str] | None = None, **query: str | int) -> list[str]:
    answer = await desk.client.get("/v1/loras", params=query, headers=headers)
    return [one["name"] for one in answer.json()["data"]]
