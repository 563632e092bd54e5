"""Health: live, ready, degraded; and what a sick database, Redis or object store does to a submit."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from producer_api.documents import HealthAnswer
from schemas.errors import DatabaseFaultError, ObjectStoreFaultError
from storage import database
from storage.objects.memory import MemoryObjectStore
from tests.api import TEXT, Desk, open_desk

LARGE = {"kind": "embedding", "model": "twin", "input": {"texts": ["x" * 1000] * 40}}


class SickStore(MemoryObjectStore):
    """An object store that answers nothing."""

    def put(self, key: str, content: bytes, content_type: str) -> str:
        raise ObjectStoreFaultError

    def check(self) -> None:
        raise ObjectStoreFaultError


@contextmanager
def sick_database(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """SQL is gone meanwhile."""

    async def fail(*_: Any) -> Any:
        raise DatabaseFaultError("connection to postgres-7.internal refused")

    with monkeypatch.context() as patch:
        for name in ("aread", "awrite", "atransact"):
            patch.setattr(desk.database, name, fail)
        yield


async def ready(desk: Desk) -> tuple[int, HealthAnswer]:
    desk.app.state.api.health.forget()
    answer = await desk.client.get("/health/ready", headers={"Authorization": ""})
    return answer.status_code, HealthAnswer.model_validate_json(answer.content)


async def test_all_stores_there_is_ready(desk: Desk) -> None:
    assert (await desk.client.get("/health/live", headers={"Authorization": ""})).json() == {"status": "live"}
    assert await ready(desk) == (200, HealthAnswer(status="ready", degraded=[]))


async def test_a_sick_object_store_degrades_and_refuses_only_large_inputs(desk: Desk) -> None:
    async with open_desk(replace(desk.services, objects=SickStore())) as sick:
        assert await ready(sick) == (200, HealthAnswer(status="degraded", degraded=["objects"]))
        assert (await sick.client.post("/v1/jobs", json=TEXT)).status_code == 202
        refused = await sick.client.post("/v1/jobs", json=LARGE)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")
        assert "nothing was stored; try again" in refused.text
        assert int(refused.headers["retry-after"]) >= 1
        assert sick.count_rows() == 1


async def test_without_sql_nothing_is_accepted_and_nothing_leaks(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    await desk.submit()  # so that the key is remembered
    with sick_database(desk, monkeypatch):
        assert await ready(desk) == (503, HealthAnswer(status="unavailable", degraded=["database"]))
        for answer in (
            await desk.client.post("/v1/jobs", json=TEXT),
            await desk.client.get("/v1/jobs"),
            await desk.client.get("/v1/jobs", headers={"Authorization": "Bearer unseen"}),
        ):
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
            assert "postgres" not in answer.text
            assert "retry-after" in answer.headers
    assert desk.count_rows() == 1
    await desk.submit()


def limit_pages(desk: Desk, count: int) -> None:
    """Let the database's file have so many pages, or those that it has: SQLite says then that the disk is full."""
    connection = desk.database.engine.raw_connection()
    connection.cursor().execute(f"PRAGMA max_page_count={count}")
    connection.close()


async def test_a_full_disk_is_not_ready_until_something_can_be_written(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_pages(desk, 1)
    statuses = []
    while 503 not in statuses:
        statuses.append((await desk.client.post("/v1/jobs", json=TEXT)).status_code)
        assert len(statuses) < 100
    assert await ready(desk) == (503, HealthAnswer(status="unavailable", degraded=["database"]))
    assert (await desk.client.get("/v1/jobs")).status_code == 200
    with monkeypatch.context() as patch:
        patch.setattr(database, "RECENT_SECONDS", 0.0)  # nobody has tried for so long
        assert await ready(desk) == (200, HealthAnswer(status="ready", degraded=[]))
    limit_pages(desk, 1_000_000)
    await desk.submit()
    assert await ready(desk) == (200, HealthAnswer(status="ready", degraded=[]))


async def test_what_nobody_foresaw_is_a_bare_500(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any) -> Any:
        raise RuntimeError("the secret ingredient is love")

    monkeypatch.setattr(desk.database, "awrite", fail)
    answer = await desk.client.post("/v1/jobs", json=TEXT)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (500, "internal_error")
    assert error["request_id"] == answer.headers["x-request-id"]
    assert "love" not in answer.text


@pytest.mark.parametrize(("environment", "status"), [("development", 200), ("production", 404)])
async def test_the_documentation_page_is_for_development(desk: Desk, environment: str, status: int) -> None:
    settings = desk.services.settings.model_validate({"environment": environment})
    async with open_desk(replace(desk.services, settings=settings)) as other:
        page = await other.client.get("/docs", headers={"Authorization": ""})
        assert page.status_code == status
        described = (await other.client.get("/openapi.json", headers={"Authorization": ""})).json()
        assert described["paths"]["/v1/jobs"]["post"]["requestBody"]["required"]


async def test_the_documentation_page_needs_nobody_else(desk: Desk) -> None:
    settings = desk.services.settings.model_validate({"environment": "development"})
    async with open_desk(replace(desk.services, settings=settings)) as other:
        page = await other.client.get("/docs")
    assert "openapi.json" in page.text
    assert "//" not in page.text.replace("<!doctype html>", "")
    assert "connect-src 'self'" in page.headers["content-security-policy"]
