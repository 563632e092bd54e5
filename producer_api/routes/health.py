"""Whether this process lives, and whether it can do its work."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from producer_api.answers import json_answer
from producer_api.documents import HealthAnswer, LiveAnswer
from producer_api.openapi import OPEN, shape
from producer_api.state import ApiHere

router = APIRouter(prefix="/health", tags=["health"])


@router.get("/live", responses=shape(LiveAnswer), openapi_extra=OPEN)
async def live() -> Response:
    """Say that the process answers."""
    return json_answer({"status": "live"})


@router.get("/ready", responses={**shape(HealthAnswer), 503: {"model": HealthAnswer}}, openapi_extra=OPEN)
async def ready(api: ApiHere) -> Response:
    """Say whether jobs are accepted, and what is degraded meanwhile; 503 only when none are."""
    health = await api.health.get()
    return json_answer({"status": health.status, "degraded": health.degraded}, 200 if health.accepts else 503)
