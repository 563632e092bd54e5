"""The app: routes, layers and errors put together over the stores that it is given."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI

from producer_api.batch_wishes import BODIES
from producer_api.body import BodyLimit
from producer_api.edge import Edge
from producer_api.errors import handle_errors
from producer_api.limits import file_limit, lora_form_limit
from producer_api.lora_documents import LORA_BODIES
from producer_api.openapi import describe, operation_id
from producer_api.parameters import refuse_unknown_parameters
from producer_api.routes import (
    batches,
    chat,
    deliveries,
    embeddings,
    events,
    files,
    generations,
    health,
    images,
    jobs,
    keys,
    lora,
    loras,
    metrics,
    models,
    queues,
    reference,
    results,
    text,
    webhooks,
    workers,
)
from producer_api.services import Services
from producer_api.settings import Environment
from producer_api.state import Api, build_api
from producer_api.webhooks import EndpointChanges, EndpointRequest
from schemas.errors import FaultError
from tasks.doors.chat import ChatRequest
from tasks.doors.embeddings import EmbeddingsRequest
from tasks.doors.images import ImagesRequest
from tasks.logs import get_logger

log = get_logger(__name__)

DESCRIPTION = "Accepts inference jobs, keeps GPUs fed, tells how each job ends."


def create_app(services: Services) -> FastAPI:
    """Return the app over these stores; it closes them when it ends."""
    api = build_api(services)
    settings = services.settings
    app = route_app()
    if settings.environment is Environment.DEVELOPMENT:
        app.include_router(reference.router)
    app.state.api = api
    handle_errors(app)
    app.add_middleware(
        BodyLimit,
        max_bytes=settings.max_body_bytes,
        of_path={
            files.router.prefix: file_limit(settings).in_form(),
            loras.router.prefix: lora_form_limit(settings).in_form(),
        },
    )
    app.add_middleware(Edge, api=api)  # the last one added is the outermost
    return app


def route_app() -> FastAPI:
    """Return the app without anything to serve from: enough to describe itself."""
    app = FastAPI(
        title="Stoker",
        version="0.1.0",
        description=DESCRIPTION,
        lifespan=_lifespan,
        redirect_slashes=False,
        redoc_url=None,
        docs_url=None,
        generate_unique_id_function=operation_id,
    )
    app.include_router(jobs.hot)
    for routes in (
        jobs,
        text,
        images,
        lora,
        loras,
        chat,
        embeddings,
        generations,
        events,
        results,
        files,
        batches,
        webhooks,
        deliveries,
        models,
        queues,
        workers,
        keys,
    ):
        app.include_router(routes.router)
    for routes in (health, metrics):
        app.include_router(routes.router)
    refuse_unknown_parameters(app.routes)
    doors = (text.TextRequest, lora.LoraRequest, ChatRequest, EmbeddingsRequest, images.ImageRequest, ImagesRequest)
    describe(app, keys.KeyRequest, *doors, *BODIES, *LORA_BODIES, EndpointRequest, EndpointChanges)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    api: Api = app.state.api
    looking = asyncio.create_task(_look_around(api))
    api.counting.begin()
    try:
        yield
    finally:
        looking.cancel()
        await api.watch.aclose()
        await api.lora_sources.aclose()
        await api.services.aclose()


async def _look_around(api: Api) -> None:
    """Say at the start which stores do not answer; the API serves without Redis and without objects."""
    with suppress(FaultError):
        await asyncio.to_thread(api.services.objects.ensure_bucket)
    if degraded := (await api.health.get()).degraded:
        log.warning("Started while stores do not answer; jobs wait until they do.", degraded=degraded)
