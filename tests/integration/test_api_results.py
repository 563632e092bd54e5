"""GET /v1/jobs/{id}/result: what a job produced, or why there is nothing."""

from typing import Any

from producer_api.documents import ArtifactList
from schemas.jobs import Status
from storage import retention
from tests.api import Desk


async def finished(desk: Desk, *files: str, **ending: Any) -> str:
    job_id = await desk.submit()
    worker = desk.worker()
    job = worker.claim()
    await worker.finish(job, artifacts=[worker.store(job, name, b"{}") for name in files], **ending)
    return job_id


async def test_one_artifact_is_a_redirect_to_its_bytes(desk: Desk) -> None:
    job_id = await finished(desk, "result.json", output={"text": "hi"})
    answer = await desk.client.get(f"/v1/jobs/{job_id}/result")
    assert answer.status_code == 302
    assert answer.headers["location"].startswith(f"memory://jobs/{job_id}/1-")
    assert "result.json" in answer.headers["location"]


async def test_several_artifacts_are_a_list(desk: Desk) -> None:
    job_id = await finished(desk, "0.png", "1.png")
    answer = await desk.client.get(f"/v1/jobs/{job_id}/result")
    assert answer.status_code == 200
    listed = ArtifactList.model_validate_json(answer.content)
    assert [artifact.name for artifact in listed.data] == ["0.png", "1.png"]


async def test_without_an_artifact_the_output_is_the_result(desk: Desk) -> None:
    job_id = await finished(desk, output={"text": "hi"})
    answer = await desk.client.get(f"/v1/jobs/{job_id}/result")
    assert (answer.status_code, answer.json()) == (200, {"text": "hi"})


async def test_a_job_under_way_has_none_yet(desk: Desk) -> None:
    job_id = await desk.submit()
    answer = await desk.client.get(f"/v1/jobs/{job_id}/result")
    assert (answer.status_code, answer.json()) == (202, {"id": job_id, "object": "job", "status": "queued"})


async def test_a_failed_job_has_none_and_says_why(desk: Desk) -> None:
    job_id = await desk.submit()
    worker = desk.worker()
    error = {"type": "job_error", "code": "engine_error", "message": "It broke.", "retryable": True}
    await worker.finish(worker.claim(), Status.FAILED, error=error)
    answer = await desk.client.get(f"/v1/jobs/{job_id}/result")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "job_failed")
    assert answer.json()["error"]["message"].startswith("The job ended failed (It broke.) and has no result")


async def test_past_its_retention_a_result_is_gone(desk: Desk) -> None:
    job_id = await finished(desk, "result.json")
    desk.database.transact(lambda connection: retention.erase(connection, [job_id], hide=False))
    answer = await desk.client.get(f"/v1/jobs/{job_id}/result")
    assert (answer.status_code, answer.json()["error"]["code"]) == (410, "gone")
    assert (await desk.look(job_id))["status"] == "succeeded"
