"""The naive peer: FastAPI, `apply_async` and Celery's Redis results, as most people write it, defaults otherwise.

Run as `uvicorn bench.naive:app` and `celery -A bench.naive:celery worker`.
"""

import os
from typing import Any

from celery import Celery
from celery.result import AsyncResult
from fastapi import FastAPI
from pydantic import BaseModel

REDIS_URL = os.environ["NAIVE_REDIS_URL"]

celery = Celery("naive", broker=REDIS_URL, backend=REDIS_URL)
app = FastAPI()


class Prompt(BaseModel):
    """What a job needs."""

    prompt: str


@celery.task
def generate(prompt: str) -> dict[str, Any]:
    """Do nothing, as the model would."""
    return {"text": prompt}


@app.post("/jobs", status_code=202)
async def submit(body: Prompt) -> dict[str, Any]:
    """Accept a job."""
    result = generate.apply_async(args=[body.prompt])
    return {"id": result.id, "status": "queued"}


@app.get("/jobs/{job_id}")
async def status(job_id: str) -> dict[str, Any]:
    """Say how a job is and what came of it."""
    result = AsyncResult(job_id, app=celery)
    return {"id": job_id, "status": result.status, "result": result.result if result.ready() else None}
