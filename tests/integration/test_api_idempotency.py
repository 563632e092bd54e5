"""Idempotency keys: whatever a client repeats, there is one job."""

import asyncio

import httpx

from tests.api import TEXT, Desk

KEY = {"Idempotency-Key": "order-17"}


async def submit(desk: Desk, **changes: object) -> httpx.Response:
    return await desk.client.post("/v1/jobs", json={**TEXT, **changes}, headers=KEY)


async def test_the_same_request_is_the_same_job(desk: Desk) -> None:
    first, again = await submit(desk), await submit(desk)
    assert first.status_code == again.status_code == 202
    assert first.json()["id"] == again.json()["id"]
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["location"] == first.headers["location"]
    assert desk.count_rows() == 1


async def test_a_request_says_the_same_when_it_only_looks_different(desk: Desk) -> None:
    first = await submit(desk)
    spelled_out = '{ "input":{"n":1, "prompt":"hello"},"policy":{},"model":"echo","kind":"text"}'
    again = await desk.client.post("/v1/jobs", content=spelled_out, headers=KEY)
    assert again.json()["id"] == first.json()["id"]


async def test_another_request_under_the_same_key_is_refused(desk: Desk) -> None:
    await submit(desk)
    answer = await submit(desk, metadata={"other": 1})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (422, "idempotency_mismatch", "Idempotency-Key")
    assert desk.count_rows() == 1


async def test_a_job_that_ended_is_answered_with_its_end(desk: Desk) -> None:
    job_id = (await submit(desk)).json()["id"]
    worker = desk.worker()
    await worker.finish(worker.claim(), output={"text": "hi"})
    again = await submit(desk)
    assert (again.status_code, again.json()["id"], again.json()["output"]) == (200, job_id, {"text": "hi"})


async def test_keys_of_two_callers_do_not_meet(desk: Desk) -> None:
    mine = await submit(desk)
    theirs = await desk.client.post("/v1/jobs", json=TEXT, headers={**KEY, **desk.bearer("other")})
    assert mine.json()["id"] != theirs.json()["id"]
    assert desk.count_rows() == 2


async def test_requests_at_the_same_moment_are_one_job(desk: Desk) -> None:
    answers = await asyncio.gather(*(submit(desk) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert desk.count_rows() == 1


async def test_a_deleted_job_does_not_run_again_under_its_key(desk: Desk) -> None:
    job_id = (await submit(desk)).json()["id"]
    await desk.client.post(f"/v1/jobs/{job_id}/cancel")
    await desk.client.delete(f"/v1/jobs/{job_id}")
    answer = await submit(desk)
    assert (answer.status_code, answer.json()["error"]["code"]) == (410, "gone")
    assert desk.count_rows() == 1


async def test_retries_have_keys_too(desk: Desk) -> None:
    job_id = await desk.submit()
    await desk.client.post(f"/v1/jobs/{job_id}/cancel")
    address = f"/v1/jobs/{job_id}/retry"
    first, again = await desk.client.post(address, headers=KEY), await desk.client.post(address, headers=KEY)
    assert first.json()["id"] == again.json()["id"]
    assert desk.count_rows() == 2


async def test_a_key_that_retried_one_job_retries_no_other(desk: Desk) -> None:
    first, second = await desk.submit(), await desk.submit()
    for job_id in (first, second):
        await desk.client.post(f"/v1/jobs/{job_id}/cancel")
    retried = [await desk.client.post(f"/v1/jobs/{one}/retry", headers=KEY) for one in (first, first, second)]
    assert [answer.status_code for answer in retried] == [202, 202, 422]
    assert retried[0].json()["id"] == retried[1].json()["id"]
    assert retried[2].json()["error"]["code"] == "idempotency_mismatch"
