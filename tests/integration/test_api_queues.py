"""Queues, workers and models over HTTP: what people see of them, and what admins do to them."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from producer_api.documents import DrainAnswer, ModelAnswer, ModelList, PurgeAnswer, QueueAnswer, QueueList, WorkerList
from schemas.base import JsonObject
from schemas.batches import Endpoint
from tests.api import QUEUE, Desk
from tests.integration.batches import Office

FIRST, SECOND = "embedding.twin.cpu0", "embedding.twin.cpu1"
EMBED: JsonObject = {"kind": "embedding", "model": "twin", "input": {"texts": ["x"]}}


async def queue(desk: Desk, name: str = QUEUE) -> QueueAnswer:
    answer = await desk.client.get(f"/v1/queues/{name}")
    assert answer.status_code == 200, answer.text
    return QueueAnswer.model_validate_json(answer.content)


async def steer(desk: Desk, name: str, what: str) -> bytes:
    answer = await desk.client.post(f"/v1/queues/{name}/{what}")
    assert answer.status_code == 200, answer.text
    return answer.content


async def test_every_placement_has_a_queue_before_any_worker_lived(desk: Desk) -> None:
    listed = QueueList.model_validate_json((await desk.client.get("/v1/queues")).content)
    assert [one.name for one in listed.data] == [FIRST, SECOND, "image.sketch.cpu0", QUEUE]


async def test_a_queue_shows_its_depth_waits_and_workers(desk: Desk) -> None:
    for _ in range(3):
        await desk.submit()
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    await desk.submit(policy={"run_at": tomorrow.isoformat()})
    worker = desk.worker(slots=4)
    worker.claim()
    worker.beat(wait_ms={"p50": 1.0, "p95": 2.0, "p99": 3.5}, run_ms={"p50": 10.0})
    shown = await queue(desk)
    jobs, lines = {"queued": 2, "scheduled": 1, "running": 1}, {"lines": 0, "running_lines": 0}
    assert shown.depth.model_dump() == {**jobs, **lines, "hints": None}
    assert shown.wait_ms == {"p50": 1.0, "p95": 2.0, "p99": 3.5}
    assert [(one.id, one.slots, one.state) for one in shown.workers] == [(worker.id, 4, "ready")]


async def test_a_paused_queue_gives_nothing_until_it_is_resumed(desk: Desk) -> None:
    job_id = await desk.submit()
    worker = desk.worker()
    assert QueueAnswer.model_validate_json(await steer(desk, QUEUE, "pause")).paused
    assert (await desk.look(job_id))["queue"]["reason"] == "paused"
    with pytest.raises(ValueError, match="not enough values"):
        worker.claim()
    assert not QueueAnswer.model_validate_json(await steer(desk, QUEUE, "resume")).paused
    assert (await desk.look(job_id))["queue"]["reason"] == "capacity"
    assert worker.claim().id == job_id


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large queues are steered in steps; make them small enough to see more than one."""
    monkeypatch.setattr("producer_api.queues.ROWS_AT_ONCE", 2)


@pytest.mark.usefixtures("small_steps")
async def test_a_purge_cancels_what_waits_and_tells_who_waits(desk: Desk) -> None:
    running = await desk.submit()
    desk.worker().claim()
    waiting_ids = [await desk.submit() for _ in range(3)]
    waiting = asyncio.create_task(desk.client.get(f"/v1/jobs/{waiting_ids[0]}?wait=50"))
    purged = PurgeAnswer.model_validate_json(await steer(desk, QUEUE, "purge"))
    assert purged.canceled == 3
    assert (await waiting).json()["status"] == "canceled"
    assert (await desk.look(running))["status"] == "running"
    assert (await queue(desk)).depth.queued == 0


@pytest.mark.usefixtures("small_steps")
async def test_a_drained_queue_gives_its_jobs_to_a_sibling_with_workers(desk: Desk) -> None:
    worker = desk.worker(FIRST)
    ids = [await desk.submit(**EMBED) for _ in range(3)]
    assert {desk.row(job_id).queue for job_id in ids} == {FIRST}
    other = desk.worker(SECOND)
    await steer(desk, SECOND, "resume")  # so that the new worker is seen at once
    drained = DrainAnswer.model_validate_json(await steer(desk, FIRST, "drain"))
    assert (drained.moved_to, drained.moved) == (SECOND, 3)
    assert {desk.row(job_id).queue for job_id in ids} == {SECOND}
    assert (await queue(desk, FIRST)).paused
    assert other.claim().id == ids[0]
    with pytest.raises(ValueError, match="not enough values"):
        worker.claim()


@pytest.mark.usefixtures("small_steps")
async def test_a_drained_queue_gives_the_lines_of_batches_away_too(desk: Desk) -> None:
    desk.worker(FIRST)
    desk.worker(SECOND)
    office = Office(desk.database, desk.objects, desk.services.catalog)
    body: JsonObject = {"model": "twin", "input": "x"}
    line: JsonObject = {"method": "POST", "url": Endpoint.EMBEDDINGS, "body": body}
    office.publish([{"custom_id": str(n), **line} for n in range(10)], endpoint=Endpoint.EMBEDDINGS)
    there = (await queue(desk, FIRST)).depth.lines
    assert there
    drained = DrainAnswer.model_validate_json(await steer(desk, FIRST, "drain"))
    assert (drained.moved_to, drained.moved) == (SECOND, there)
    assert [(await queue(desk, name)).depth.lines for name in (FIRST, SECOND)] == [0, 10]


async def test_a_drain_without_a_sibling_only_pauses(desk: Desk) -> None:
    job_id = await desk.submit()
    drained = DrainAnswer.model_validate_json(await steer(desk, QUEUE, "drain"))
    assert (drained.moved_to, drained.moved) == (None, 0)
    assert desk.row(job_id).queue == QUEUE


@pytest.mark.parametrize("what", ["", "/pause", "/resume", "/purge", "/drain"])
async def test_an_unknown_queue_is_not_found(desk: Desk, what: str) -> None:
    answer = await desk.client.request("POST" if what else "GET", f"/v1/queues/text.nobody.cpu0{what}")
    assert answer.status_code == 404
    assert (
        answer.json()["error"]["message"]
        == "There is no queue 'text.nobody.cpu0'; GET /v1/queues lists those there are."
    )


async def test_jobs_go_where_workers_are_and_spread_over_them(desk: Desk) -> None:
    desk.worker(SECOND)
    assert desk.row(await desk.submit(**EMBED)).queue == SECOND
    desk.worker(FIRST)
    await steer(desk, FIRST, "resume")
    placed = [desk.row(await desk.submit(**EMBED)).queue for _ in range(5)]
    assert placed.count(FIRST) == 3


async def test_workers_are_listed_and_sent_home(desk: Desk) -> None:
    worker = desk.worker()
    desk.worker(lease=-1)  # lost already
    listed = WorkerList.model_validate_json((await desk.client.get("/v1/workers")).content)
    assert [(one.id, one.draining) for one in listed.data] == [(worker.id, False)]
    answer = await desk.client.post(f"/v1/workers/{worker.id}/drain")
    assert (answer.status_code, answer.json()["draining"]) == (202, True)
    listed = WorkerList.model_validate_json((await desk.client.get("/v1/workers")).content)
    assert listed.data[0].draining
    assert (await desk.client.post("/v1/workers/nobody/drain")).status_code == 404


async def test_models_say_where_they_run_and_in_which_state(desk: Desk) -> None:
    desk.worker(FIRST, state="loading")
    listed = ModelList.model_validate_json((await desk.client.get("/v1/models")).content)
    assert [model.id for model in listed.data] == ["echo", "sketch", "twin"]
    answer = await desk.client.get("/v1/models/twin")
    model = ModelAnswer.model_validate_json(answer.content)
    assert [(one.device, one.queue, one.state) for one in model.placements] == [
        ("cpu0", FIRST, "loading"),
        ("cpu1", SECOND, "no_worker"),
    ]
    assert "builtin" not in answer.text  # where weights come from is nobody's business
    unknown = await desk.client.get("/v1/models/gpt")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")


async def test_a_loading_worker_is_the_reason_for_a_wait(desk: Desk) -> None:
    desk.worker(FIRST, state="warming")
    job_id = await desk.submit(**EMBED)
    assert (await desk.look(job_id))["queue"]["reason"] == "loading"


async def test_metrics_are_prometheus_text(desk: Desk) -> None:
    await desk.submit()
    desk.worker().beat(wait_ms={"p50": 7.0})
    text = (await desk.client.get("/metrics")).text
    assert f'stoker_queue_jobs{{queue="{QUEUE}",state="queued"}} 1.0' in text
    assert f'stoker_queue_wait_ms{{percentile="p50",queue="{QUEUE}"}} 7.0' in text
    assert 'stoker_http_requests_total{method="POST",route="/v1/jobs",status="202"} 1.0' in text
    assert "stoker_hints_dropped" in text
