"""The app: routes, layers and errors put together over the stores that it is given."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from producer_api.body import BodyLimit
from producer_api.edge import Edge
from producer_api.errors import handle_errors
from producer_api.routes import events, health, jobs, keys, metrics, models, queues, results, workers
from producer_api.services import Services
from producer_api.settings import Environment
from producer_api.state import Api, build_api

DESCRIPTION = "Accepts inference jobs, keeps GPUs fed, tells how each job ends."


def create_app(services: Services) -> FastAPI:
    """Return the app over these stores; it closes them when it ends."""
    api = build_api(services)
    settings = services.settings
    app = FastAPI(
        title="Stoker",
        version="0.1.0",
        description=DESCRIPTION,
        lifespan=_lifespan,
        redirect_slashes=False,
        redoc_url=None,
        docs_url="/docs" if settings.environment is Environment.DEVELOPMENT else None,
    )
    app.state.api = api
    app.include_router(jobs.hot)
    for routes in (jobs, events, results, models, queues, workers, keys, health, metrics):
        app.include_router(routes.router)
    handle_errors(app)
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes, drain_bytes=settings.max_drain_bytes)
    app.add_middleware(Edge, measures=api.measures)  # the last one added is the outermost
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    api: Api = app.state.api
    try:
        yield
    finally:
        await api.watch.aclose()
        await api.services.aclose()
