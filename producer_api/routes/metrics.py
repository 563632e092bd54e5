"""Figures for Prometheus, which sends an admin's key as its bearer token."""

from __future__ import annotations

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from producer_api.measures import render
from producer_api.openapi import Responses, errors
from producer_api.state import Admin, ApiHere
from storage import workers

router = APIRouter(tags=["health"])

FIGURES: Responses = {
    200: {"description": "The figures.", "content": {"text/plain": {"schema": {"type": "string"}}}},
    **errors(),
}


@router.get("/metrics", response_class=Response, responses=FIGURES)
async def metrics(api: ApiHere, _: Admin) -> Response:
    """Count requests, jobs, tokens, hints and workers, in Prometheus's text form."""
    living = await api.services.database.aread(workers.living)
    content = render(api.measures, await api.queues.list(), living, api.services.hints.dropped)
    return Response(content, media_type=CONTENT_TYPE_LATEST)
