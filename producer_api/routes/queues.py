"""Queues: how deep they are, how long jobs wait in them, and what admins do to them."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from producer_api.answers import json_answer
from producer_api.documents import DrainAnswer, PurgeAnswer, QueueAnswer, QueueList
from producer_api.openapi import answers
from producer_api.state import Admin, ApiHere, Reader
from schemas.errors import NotFoundError

router = APIRouter(prefix="/v1/queues", tags=["queues"])


@router.get("", responses=answers(200, QueueList))
async def list_queues(api: ApiHere, _: Reader) -> Response:
    """List the queues: one per model and device."""
    return json_answer({"object": "list", "data": await api.queues.list()})


@router.get("/{name}", responses=answers(200, QueueAnswer, NotFoundError))
async def get_queue(api: ApiHere, _: Reader, name: str) -> Response:
    """Look at one queue."""
    return json_answer(await api.queues.find(name))


@router.post("/{name}/pause", responses=answers(200, QueueAnswer, NotFoundError))
async def pause_queue(api: ApiHere, _: Admin, name: str) -> Response:
    """Stop taking jobs from a queue; what runs goes on, what is submitted waits."""
    await api.queues.pause(name, paused=True)
    return json_answer(await api.queues.find(name))


@router.post("/{name}/resume", responses=answers(200, QueueAnswer, NotFoundError))
async def resume_queue(api: ApiHere, _: Admin, name: str) -> Response:
    """Take jobs from a paused queue again."""
    await api.queues.pause(name, paused=False)
    return json_answer(await api.queues.find(name))


@router.post("/{name}/purge", responses=answers(200, PurgeAnswer, NotFoundError))
async def purge_queue(api: ApiHere, _: Admin, name: str) -> Response:
    """Cancel every job that waits in a queue, whoever submitted it."""
    return json_answer({"object": "queue.purge", "name": name, "canceled": await api.queues.purge(name)})


@router.post("/{name}/drain", responses=answers(200, DrainAnswer, NotFoundError))
async def drain_queue(api: ApiHere, _: Admin, name: str) -> Response:
    """Pause a queue and move what waits in it to another placement of the model, where one has workers."""
    return json_answer({"object": "queue.drain", "name": name, **await api.queues.drain(name)})
