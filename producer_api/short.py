"""The short way to a job: a request whose fields are those of a job and, beside them, those of its input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from producer_api.authentication import Scope
from producer_api.body import read_as
from producer_api.jobs import admit_at_door, answer_accepted
from producer_api.plain import wanted_wait
from producer_api.state import api_of
from schemas.jobs import JobFields, JobRequest
from tasks.routing import check_kind, find_model

Form = TypeVar("Form", bound=JobFields)


def part(form: JobFields, kind_of_input: type[BaseModel]) -> dict[str, Any]:
    """Return what was said as the fields of a job, with what its input has under `input`."""
    said = {name: getattr(form, name) for name in form.model_fields_set}
    given = {name: value for name, value in said.items() if name in kind_of_input.model_fields}
    fields = {name: value for name, value in said.items() if name in JobFields.model_fields}
    return {**fields, "input": kind_of_input(**given)}


async def submit_short(request: Request, form: type[Form], as_job: Callable[[Form], JobRequest]) -> Response:
    """Submit a job. With `Prefer: wait=N` the answer waits for its end: 200 when it ended in time, else 202."""
    api = api_of(request)
    key = await api.keys.authenticate(request, Scope.SUBMIT)
    wait_seconds = wanted_wait(request, api.services.settings.wait_limit_seconds)
    job = as_job(await read_as(form, request))
    catalog = api.services.catalog
    check_kind(catalog, find_model(catalog, job.model), job.kind)
    accepted = await admit_at_door(request, job, key.caller_id)
    return await answer_accepted(request, accepted, key.caller_id, wait_seconds)
