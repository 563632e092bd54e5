"""A caller of batches who tries again after a lost connection or a 5xx, and a plan of what must be answered."""

from __future__ import annotations

import asyncio
import json
import random
from types import TracebackType
from typing import Any, Self

import httpx

from schemas.base import JsonObject
from schemas.batches import Endpoint
from tests.chaos.batch_checker import PlannedLine, Struck
from workers.engines.fake_output import expected_output

AGAIN_SECONDS = 0.1
TIMEOUT_SECONDS = 15.0
ENDS = {"completed", "failed", "expired", "cancelled"}
MODEL = "lark"
DEADLY_ATTEMPTS = 3
"""So often a line may take its worker along."""


def plan_lines(chance: random.Random, count: int, *, stumbles: bool = True, deadly: int = 0) -> dict[str, PlannedLine]:
    """Plan lines of which a few are wrong in themselves, and, if they may, a few stumble once or kill their worker."""
    planned = {}
    for number in range(count):
        name = f"line-{number}"
        text = f"{name} of {chance.randrange(10**6)} fake:sleep-ms={chance.randint(5, 150)}"
        planned[name] = _plan(name, text, number % 50, stumbles=stumbles)
    for number in range(deadly):
        name = f"line-{(number + 1) * count // (deadly + 1)}"
        body = {"model": MODEL, "input": f"{name} fake:sleep-ms=20 fake:exit"}
        planned[name] = PlannedLine(_line(name, body), None, attempts=DEADLY_ATTEMPTS, error="worker_lost")
    return planned


def _plan(name: str, text: str, place: int, *, stumbles: bool) -> PlannedLine:
    body: JsonObject = {"model": MODEL, "input": text}
    if place == 7:
        return PlannedLine(_line(name, body | {"model": "nobody"}), None, attempts=0)
    if place == 13:
        return PlannedLine(_line(name, body | {"dimensions": "many"}), None)
    if place == 21:
        return PlannedLine(_line(name, body | {"input": f"{text} fake:refuse"}), None)
    if place == 33 and stumbles:
        body["input"] = f"{text} fake:fail-times=1"
    vector = expected_output("embedding", {"texts": [body["input"]]})["embeddings"][0]
    return PlannedLine(_line(name, body), vector, attempts=2 if body["input"] != text else 1)


def _line(name: str, body: JsonObject) -> JsonObject:
    return {"custom_id": name, "method": "POST", "url": Endpoint.EMBEDDINGS.value, "body": body}


class BatchClient:
    """One caller with one key."""

    def __init__(self, url: str, key: str) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        self._api = httpx.AsyncClient(base_url=url, headers=headers, timeout=TIMEOUT_SECONDS, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._api.aclose()

    async def create(self, struck: Struck) -> str:
        """Upload the lines and make them a batch; its id."""
        content = b"".join(json.dumps(one.line).encode() + b"\n" for one in struck.planned.values())
        files = {"file": (f"{struck.name}.jsonl", content)}
        file = (await self._ask("POST", "/v1/files", data={"purpose": "batch"}, files=files)).json()
        asked = {"input_file_id": file["id"], "endpoint": Endpoint.EMBEDDINGS.value, "completion_window": "1h"}
        headers = {"Idempotency-Key": f"chaos-{struck.name}-{file['id']}"}
        struck.view = (await self._ask("POST", "/v1/batches", json=asked, headers=headers)).json()
        return str(struck.view["id"])

    async def steer(self, struck: Struck, verb: str) -> None:
        """Pause, resume or cancel it."""
        struck.view = (await self._ask("POST", f"/v1/batches/{struck.view['id']}/{verb}")).json()

    async def look(self, struck: Struck) -> JsonObject:
        """Look at it once."""
        struck.view = (await self._ask("GET", f"/v1/batches/{struck.view['id']}")).json()
        return struck.view

    async def has_ended(self, struck: Struck, seconds: float) -> bool:
        """Look until it has ended, and fetch what it gave."""
        try:
            async with asyncio.timeout(seconds):
                while (await self.look(struck))["status"] not in ENDS:  # noqa: ASYNC110 - there is no event
                    await asyncio.sleep(AGAIN_SECONDS)
        except TimeoutError:
            return False
        struck.output = await self._lines(struck.view["output_file_id"])
        struck.errors = await self._lines(struck.view["error_file_id"])
        return True

    async def _lines(self, file_id: str | None) -> list[JsonObject]:
        if file_id is None:
            return []
        content = (await self._ask("GET", f"/v1/files/{file_id}/content")).content
        return [json.loads(line) for line in content.splitlines()]

    async def _ask(self, method: str, path: str, **said: Any) -> httpx.Response:
        while True:
            try:
                answer = await self._api.request(method, path, **said)
            except httpx.TransportError:
                pass
            else:
                if not answer.is_server_error:
                    return answer.raise_for_status()
            await asyncio.sleep(AGAIN_SECONDS)
