"""Workers: who is alive, what each holds, and sending one home."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from producer_api.answers import json_answer
from producer_api.documents import WorkerDrainAnswer, WorkerList
from producer_api.openapi import answers
from producer_api.state import Admin, ApiHere, Reader
from producer_api.workers import worker_view
from schemas.errors import NotFoundError
from storage import workers

router = APIRouter(prefix="/v1/workers", tags=["workers"])


@router.get("", responses=answers(200, WorkerList))
async def list_workers(api: ApiHere, _: Reader) -> Response:
    """List the workers whose lease runs."""
    living = await api.services.database.aread(workers.living)
    return json_answer({"object": "list", "data": [worker_view(worker) for worker in living]})


@router.post("/{worker_id}/drain", status_code=202, responses=answers(202, WorkerDrainAnswer, NotFoundError))
async def drain_worker(api: ApiHere, _: Admin, worker_id: str) -> Response:
    """Ask a worker to finish what it holds and stop; its supervisor may start another."""
    asked = await api.services.database.atransact(lambda connection: workers.request_drain(connection, worker_id))
    if not asked:
        raise NotFoundError(f"There is no worker '{worker_id[:100]}'; GET /v1/workers lists those that live.")
    return json_answer({"object": "worker.drain", "id": worker_id, "draining": True}, 202)
