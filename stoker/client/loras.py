"""Adapters from Python: `stoker.loras`, blocking and asynchronous; both run the same flows."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from pathlib import Path
from typing import TypedDict, TypeVar, Unpack
from urllib.parse import quote

from stoker.client.api import Api
from stoker.client.batches import AsyncRun, Run
from stoker.client.documents import Lora
from stoker.client.errors import StokerError
from stoker.client.exchange import Call, Flow

T = TypeVar("T")
CONFIG = "adapter_config.json"
PAGE_LORAS = 100
UPLOAD_ANSWER_SECONDS = 600.0


class LoraOptions(TypedDict, total=False):
    """What may be said of an adapter beside its model and its name."""

    alpha: float | None
    shared: bool


class LoraFilter(TypedDict, total=False):
    """Which adapters a list shows."""

    model: str | None
    kind: str | None


class LoraApi(Api):
    """The calls about adapters."""

    def add_lora(self, file: Path, model: str, name: str, options: LoraOptions) -> Flow[Lora]:
        """Upload an adapter; however often this is sent, it is one."""
        weights = find_weights(file)
        alpha = options.get("alpha")
        said = {"alpha": read_alpha(weights) if alpha is None else alpha, "shared": options.get("shared") or None}
        fields = {field: str(value).lower() for field, value in said.items() if value is not None}
        form = {"model": model, "name": name, **fields}
        call = Call("POST", f"{self.url}/v1/loras", form, file=weights, read_seconds=UPLOAD_ANSWER_SECONDS)
        return Lora((yield from self._json(call)))

    def list_loras(self, wanted: LoraFilter) -> Flow[list[Lora]]:
        """List the adapters that one may use."""
        params = {field: str(value) for field, value in wanted.items() if value is not None}
        found, after = [], ""
        while True:
            cursor = {"after": after} if after else {}
            query = {**params, **cursor, "limit": str(PAGE_LORAS)}
            told = yield from self._json(Call("GET", f"{self.url}/v1/loras", params=query))
            found += [Lora(one) for one in told["data"]]
            if not told["has_more"]:
                return found
            after = told["next_cursor"]

    def get_lora(self, lora: str) -> Flow[Lora]:
        """Look at an adapter."""
        return Lora((yield from self._json(Call("GET", f"{self.url}/v1/loras/{quote(lora, safe='')}"))))

    def delete_lora(self, lora: str) -> Flow[None]:
        """Delete an adapter."""
        call = Call("DELETE", f"{self.url}/v1/loras/{quote(lora, safe='')}", is_repeatable=False)
        yield from self._send(call)


def find_weights(file: Path) -> Path:
    """Return the file, or the one .safetensors file of a folder."""
    if file.is_dir():
        found = sorted(file.glob("*.safetensors"))
        if len(found) != 1:
            what = "name one of them" if found else "name the file of an adapter, or a folder with one"
            raise StokerError(f"{file} has {len(found) or 'no'} .safetensors files; {what}.")
        return found[0]
    if not file.is_file():
        raise StokerError(f"There is no file {file}.")
    return file


def read_alpha(weights: Path) -> float | None:
    """Return what PEFT keeps beside the weights of a text adapter."""
    try:
        alpha = json.loads((weights.parent / CONFIG).read_text())["lora_alpha"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return float(alpha) if isinstance(alpha, (int, float)) else None


class Loras:
    """What can be done with adapters."""

    def __init__(self, api: LoraApi, run: Run) -> None:
        self._api = api
        self._run = run

    def add(self, file: Path | str, *, model: str, name: str, **options: Unpack[LoraOptions]) -> Lora:
        """Upload a .safetensors file, or the folder of one; the alpha of a text adapter is read beside it."""
        return self._run(self._api.add_lora(Path(file), model, name, options))

    def list(self, **wanted: Unpack[LoraFilter]) -> list[Lora]:
        """List the adapters that you may use: the catalog's, then yours and everybody's."""
        return self._run(self._api.list_loras(wanted))

    def get(self, lora: str) -> Lora:
        """Look at an adapter."""
        return self._run(self._api.get_lora(lora))

    def delete(self, lora: str) -> None:
        """Delete an adapter; jobs that were submitted with it still run."""
        self._run(self._api.delete_lora(lora))


class AsyncLoras:
    """The same, to be awaited."""

    def __init__(self, api: LoraApi, run: AsyncRun) -> None:
        self._api = api
        self._run = run

    async def add(self, file: Path | str, *, model: str, name: str, **options: Unpack[LoraOptions]) -> Lora:
        """Upload a .safetensors file, or the folder of one; the alpha of a text adapter is read beside it."""
        return await self._run(self._api.add_lora(Path(file), model, name, options))

    def list(self, **wanted: Unpack[LoraFilter]) -> Awaitable[list[Lora]]:
        """List the adapters that you may use: the catalog's, then yours and everybody's."""
        return self._run(self._api.list_loras(wanted))

    async def get(self, lora: str) -> Lora:
        """Look at an adapter."""
        return await self._run(self._api.get_lora(lora))

    async def delete(self, lora: str) -> None:
        """Delete an adapter; jobs that were submitted with it still run."""
        await self._run(self._api.delete_lora(lora))
