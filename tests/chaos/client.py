"""The caller of the run: submits, cancels, looks and fetches over HTTP, and writes down every answer."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from types import TracebackType
from typing import Any, Self

import httpx

from schemas.base import JsonObject
from tests.chaos.history import JobHistory, Look, digest

TIMEOUT_SECONDS = 15.0
AGAIN_SECONDS = 0.15
CONNECTIONS = 40
RESULT = "result.json"


class Client:
    """One caller with one key, who tries again after a lost connection or a 503."""

    def __init__(self, url: str, key: str) -> None:
        limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
        headers = {"Authorization": f"Bearer {key}"}
        self._api = httpx.AsyncClient(
            base_url=url, headers=headers, limits=limits, timeout=TIMEOUT_SECONDS, trust_env=False
        )
        self._store = httpx.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False)
        self.submits = asyncio.Semaphore(CONNECTIONS // 2)
        self.slowest_submit = 0.0
        self.gives_up = False
        """Set at the end of a run that cannot be mended, so that nobody tries for ever."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._api.aclose()
        await self._store.aclose()

    async def submit(self, body: JsonObject, history: JobHistory) -> None:
        """Submit until there is an answer with a job; the key makes all tries one."""
        async with self.submits:
            while not history.job_ids and not self.gives_up:
                await self._submit_once(body, history)
                if not history.job_ids:
                    await asyncio.sleep(AGAIN_SECONDS)

    async def _submit_once(self, body: JsonObject, history: JobHistory) -> None:
        asked_at = time.monotonic()
        try:
            answer = await self._api.post("/v1/jobs", json=body, headers={"Idempotency-Key": history.key})
        except httpx.ConnectError:
            return  # nobody was there: it was never sent
        except httpx.TransportError:
            history.lost_replies += 1
            return
        self.slowest_submit = max(self.slowest_submit, time.monotonic() - asked_at)
        if answer.status_code in {200, 202}:
            job = answer.json()
            history.job_ids.add(job["id"])
            history.was_replayed |= answer.headers.get("Idempotent-Replayed") == "true"
            history.looks.append(Look.at(job, asked_at, time.monotonic()))
        elif answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            history.refusals += 1
        else:
            history.server_errors.append(_sentence(answer))

    async def look(self, history: JobHistory, wait_seconds: int = 0) -> JsonObject | None:
        """Look at a job once; nothing when the API was not to be had."""
        headers = {"Prefer": f"wait={wait_seconds}"} if wait_seconds else {}
        asked_at = time.monotonic()
        job = await self._ask(history, "GET", f"/v1/jobs/{history.job_id}", headers)
        if job is not None:
            history.looks.append(Look.at(job, asked_at, time.monotonic()))
        return job

    async def cancel(self, history: JobHistory) -> None:
        """Cancel a job, whatever it takes."""
        while not self.gives_up:
            asked_at = time.monotonic()
            job = await self._ask(history, "POST", f"/v1/jobs/{history.job_id}/cancel", {})
            if job is not None:
                history.looks.append(Look.at(job, asked_at, time.monotonic()))
                return
            await asyncio.sleep(AGAIN_SECONDS)

    async def look_at_all(self, by_id: dict[str, JobHistory], limit: int) -> None:
        """Look at the newest jobs through the list."""
        asked_at = time.monotonic()
        try:
            answer = await self._api.get("/v1/jobs", params={"limit": limit})
        except httpx.TransportError:
            return
        if answer.status_code == httpx.codes.OK:
            for job in answer.json()["data"]:
                if job["id"] in by_id:
                    by_id[job["id"]].looks.append(Look.at(job, asked_at, time.monotonic()))

    async def order(self, path: str) -> None:
        """Give an operator's order, such as a pause, until it is heard."""
        while True:
            try:
                answer = await self._api.post(path)
            except httpx.TransportError:
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                answer.raise_for_status()
                return
            await asyncio.sleep(AGAIN_SECONDS)

    async def fetch(self, history: JobHistory, job: JsonObject) -> None:
        """Fetch every file of a job that succeeded and compare it with what it must be."""
        fetched: dict[str, Any] = {}
        for artifact in job["artifacts"]:
            answer = await self._store.get(artifact["url"])
            name, content = artifact["name"], answer.content
            if answer.status_code != httpx.codes.OK:
                history.wrong_results.append(f"the link of {name} was answered with {answer.status_code}")
                return
            fetched[name] = digest(content)
            history.wrong_results += _faults(history, artifact, content)
        missing = history.expected.files.keys() - fetched.keys()
        if missing or not fetched:
            history.wrong_results.append(f"it lacks the files {', '.join(missing) or 'of its result'}")
        history.results.append(digest(fetched))

    async def _ask(self, history: JobHistory, method: str, path: str, headers: dict[str, str]) -> JsonObject | None:
        try:
            answer = await self._api.request(method, path, headers=headers)
        except httpx.TransportError:
            return None
        if answer.status_code in {200, 202}:
            job: JsonObject = answer.json()
            return job
        if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
            history.server_errors.append(_sentence(answer))
        return None


def _faults(history: JobHistory, artifact: JsonObject, content: bytes) -> list[str]:
    """Compare a file with what the job says of it and with what the engine must have made."""
    name, sha256 = artifact["name"], hashlib.sha256(content).hexdigest()
    faults = []
    if sha256 != artifact["sha256"] or len(content) != artifact["bytes"]:
        faults.append(f"the bytes of {name} are not those that the job names")
    is_right = sha256 == history.expected.files.get(name)
    if name == RESULT:
        is_right = digest(json.loads(content)) == history.expected.output
    if not is_right:
        faults.append(f"{name} is not what the input must give")
    return faults


def _sentence(answer: httpx.Response) -> str:
    return f"{answer.request.method} was answered with {answer.status_code}: {answer.text[:300]}"
