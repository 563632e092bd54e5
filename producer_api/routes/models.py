"""Models: what the catalog has, and where it runs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from producer_api.answers import json_answer
from producer_api.authentication import Scope
from producer_api.documents import ModelAnswer, ModelList
from producer_api.doors import DoorRoute
from producer_api.openapi import door_errors, shape
from producer_api.state import api_of
from schemas.base import JsonObject
from schemas.catalog import Model
from schemas.errors import ModelNotFoundError
from schemas.jobs import Kind
from storage.adapters import AdapterRow
from tasks.adapter_names import check_variant
from tasks.dispatch import QueueLoad, resident_on
from tasks.engine import EngineState
from tasks.routing import placements_of, split_variant

router = APIRouter(prefix="/v1/models", tags=["openai"], route_class=DoorRoute)

CREATED = int(time.time())
"""When this process read the catalog: OpenAI's clients want a number here."""
OWNER = "stoker"


@router.get("", responses={**shape(ModelList), **door_errors()})
async def list_models(request: Request) -> Response:
    """List the models of the catalog, and each text model with each of its adapters as `model:adapter`."""
    api = api_of(request)
    key = await api.keys.authenticate(request, Scope.READ)
    loads, uploaded = await api.dispatcher.loads(), await api.loras.uploaded(key.caller_id)
    models = api.services.catalog.models.values()
    data = [model_view(model, loads, adapter, uploaded) for model in models for adapter in (None, *_variants(model))]
    return json_answer({"object": "list", "data": data})


@router.get("/{alias}", responses={**shape(ModelAnswer), **door_errors(ModelNotFoundError)})
async def get_model(request: Request, alias: str) -> Response:
    """Look at one model, also as `model:adapter` with an uploaded adapter that the caller may use."""
    api = api_of(request)
    key = await api.keys.authenticate(request, Scope.READ)
    catalog = api.services.catalog
    await check_variant(api.services.database, catalog, alias, key.caller_id)
    model, adapter = split_variant(catalog, alias)
    uploaded = await api.loras.uploaded(key.caller_id)
    return json_answer(model_view(model, await api.dispatcher.loads(), adapter, uploaded))


def _variants(model: Model) -> list[str]:
    return list(model.adapters) if model.kind is Kind.TEXT else []


def model_view(
    model: Model,
    loads: Mapping[str, QueueLoad],
    adapter: str | None = None,
    uploaded: Sequence[AdapterRow] = (),
) -> JsonObject:
    """Return a model as callers see it, alone or with an adapter: not where its weights come from."""
    listed = [(name, name, one.description) for name, one in model.adapters.items()]
    listed += [(row.id, row.name, "") for row in uploaded if row.model == model.alias]
    adapters = [
        {"id": one, "name": name, "description": said, "resident_on": resident_on(model, one, loads)}
        for one, name, said in listed
    ]
    return {
        "id": f"{model.alias}:{adapter}" if adapter else model.alias,
        "object": "model",
        "created": CREATED,
        "owned_by": OWNER,
        "kind": model.kind,
        "engine": model.engine,
        "description": _describe(model, adapter),
        "languages": model.languages,
        "placements": [
            {"device": place.device, "queue": place.queue, "state": state_of(loads.get(place.queue, QueueLoad()))}
            for place in placements_of(model)
        ],
        "adapters": [] if adapter else adapters,
        "base_model": model.alias if adapter else None,
        "context_length": model.context_length,
        "max_in_flight": model.max_in_flight,
        "timeout_seconds": model.timeout_seconds,
    }


def _describe(model: Model, adapter: str | None) -> str:
    if adapter is None:
        return model.description
    return model.adapters[adapter].description if adapter in model.adapters else ""


def state_of(load: QueueLoad) -> str:
    """Return a placement's state in one word: the best that one of its workers is in."""
    if load.paused:
        return "paused"
    best_first = (EngineState.READY, EngineState.WARMING, EngineState.LOADING, EngineState.NEW)
    return next((state for state in best_first if state in load.states), "no_worker")
