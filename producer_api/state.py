"""What routes work with, found by the request that they serve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Query
from starlette.requests import Request

from producer_api.admission import Admission
from producer_api.authentication import Keys, Scope
from producer_api.batch_output import BatchOutput
from producer_api.batches import Batches
from producer_api.files import Files
from producer_api.headers import header_of
from producer_api.health import Health, examine
from producer_api.lora_sources import LoraSources
from producer_api.loras import Loras
from producer_api.measures import Measures
from producer_api.queues import Queues
from producer_api.seats import Seats
from producer_api.services import Services
from producer_api.views import Views
from producer_api.waiting import Watch
from producer_api.webhooks import Webhooks
from storage.callers import KeyRow
from tasks.counting import Counting
from tasks.dispatch import Dispatcher
from tasks.freshness import Fresh

HEALTH_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Api:
    """The stores, and what this process has built on them."""

    services: Services
    dispatcher: Dispatcher
    counting: Counting
    keys: Keys
    admission: Admission
    views: Views
    watch: Watch
    seats: Seats
    measures: Measures
    queues: Queues
    webhooks: Webhooks
    files: Files
    batches: Batches
    batch_output: BatchOutput
    loras: Loras
    lora_sources: LoraSources
    health: Fresh[Health]


def build_api(services: Services) -> Api:
    """Build everything that one process needs."""
    dispatcher = Dispatcher(services.database)
    webhooks, loras = Webhooks(services), Loras(services, dispatcher)
    counting = Counting(services.catalog, services.weights)
    files = Files(services)
    return Api(
        services=services,
        dispatcher=dispatcher,
        counting=counting,
        keys=Keys(services.database),
        admission=Admission(services, dispatcher, counting),
        views=Views(services, dispatcher),
        watch=Watch(services.database, services.bell),
        seats=Seats(),
        measures=Measures(),
        queues=Queues(services, dispatcher, webhooks),
        webhooks=webhooks,
        files=files,
        batches=Batches(services),
        batch_output=BatchOutput(services, files),
        loras=loras,
        lora_sources=LoraSources(services, loras),
        health=Fresh(lambda: examine(services), HEALTH_SECONDS),
    )


def api_of(request: Request) -> Api:
    """Return the API that serves a request."""
    api: Api = request.scope["api"]
    return api


def base_of(request: Request) -> str:
    """Return what the links in an answer begin with."""
    given = api_of(request).services.settings.public_url
    return given.rstrip("/") if given else f"{request.scope['scheme']}://{header_of(request.scope, b'host') or ''}"


Caller = Annotated[str | None, Query(max_length=200, description="Another caller's job; for admins.")]


async def _api(request: Request) -> Api:
    return api_of(request)  # the framework would run a plain function in a thread


async def _submitter(request: Request) -> KeyRow:
    return await api_of(request).keys.authenticate(request, Scope.SUBMIT)


async def _reader(request: Request) -> KeyRow:
    return await api_of(request).keys.authenticate(request, Scope.READ)


async def _admin(request: Request) -> KeyRow:
    return await api_of(request).keys.authenticate(request, Scope.ADMIN)


async def _owner_read(request: Request, caller: Caller = None) -> str:
    keys = api_of(request).keys
    return await keys.caller_of(await keys.authenticate(request, Scope.READ), caller)


async def _owner_steered(request: Request, caller: Caller = None) -> str:
    keys = api_of(request).keys
    return await keys.caller_of(await keys.authenticate(request, Scope.SUBMIT), caller)


ApiHere = Annotated[Api, Depends(_api)]
Submitter = Annotated[KeyRow, Depends(_submitter)]
Reader = Annotated[KeyRow, Depends(_reader)]
Admin = Annotated[KeyRow, Depends(_admin)]
ReadOwner = Annotated[str, Depends(_owner_read)]
SteeredOwner = Annotated[str, Depends(_owner_steered)]
