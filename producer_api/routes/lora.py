"""Adapters by their ids: one call for all kinds, whose answer is the job and its result in one word."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from producer_api.authentication import Scope
from producer_api.body import read_as
from producer_api.documents import LoraJob
from producer_api.jobs import answer_accepted, origin_of
from producer_api.openapi import SUBMIT_ERRORS, SUBMITTING, answers, body, shape
from producer_api.plain import PlainRoute, wanted_wait
from producer_api.services import Services
from producer_api.state import api_of
from schemas.base import JsonObject
from schemas.catalog import Model
from schemas.errors import InvalidError, NotFoundError, StokerError
from schemas.image import AdapterUse, ImageInput, SafetyMode
from schemas.jobs import ImageJob, JobFields, Kind, TextJob
from schemas.text import Message, TextInput
from tasks.adapter_names import find_owners, list_adapters

router = APIRouter(prefix="/v1/lora", tags=["lora"], route_class=PlainRoute)

EXAMPLE = {"lora_id": "pirate", "prompt": "What is a queue?", "seed": 7, "max_tokens": 64}
IMAGE = {"lora_id": "night", "prompt": "a red circle", "seed": 7, "steps": 8, "strength": 0.5}
OF_IMAGES = ("negative_prompt", "steps", "safety_mode")
WHOLE = 1.0


class LoraRequest(JobFields):
    """What an adapter is to make of a prompt."""

    lora_id: str = Field(min_length=1, max_length=128)
    model: str = Field("", max_length=128, description="The adapter's model, where several have one of that id.")
    prompt: str = Field(min_length=1)
    seed: int | None = Field(None, ge=0, lt=2**63)
    max_tokens: int | None = Field(None, ge=1, description="Of a text; by default as many as there is room for.")
    temperature: float | None = Field(None, ge=0, le=2, description="Of a text.")
    strength: float | None = Field(None, ge=0, le=2, description="Of a text adapter always 1.")
    negative_prompt: str | None = Field(None, description="For image adapters.")
    steps: int | None = Field(None, description="For image adapters.")
    safety_mode: SafetyMode | None = Field(None, description="For image adapters; text takes `off` only.")


WANTED = {
    "requestBody": body("LoraRequest", {"a text adapter": {"value": EXAMPLE}, "an image adapter": {"value": IMAGE}}),
    "parameters": SUBMITTING,
}
ANSWERS = {**shape(LoraJob), **answers(202, LoraJob, NotFoundError, *SUBMIT_ERRORS)}


@router.post("/generate", status_code=202, responses=ANSWERS, openapi_extra=WANTED)
async def generate_with_lora(request: Request) -> Response:
    """Run a prompt through an adapter. With `Prefer: wait=N` the answer has the `result` when it came in time."""
    api = api_of(request)
    key = await api.keys.authenticate(request, Scope.SUBMIT)
    wait_seconds = wanted_wait(request, api.services.settings.wait_limit_seconds)
    wanted = await read_as(LoraRequest, request)
    job = as_job(wanted, await find_owner(api.services, wanted, key.caller_id))
    try:
        accepted = await api.admission.admit(job, origin_of(request, key.caller_id))
    except StokerError as error:
        if error.param is not None:
            error.param = error.param.removeprefix("input.").replace("messages", "prompt")
        raise
    return await answer_accepted(request, accepted, key.caller_id, wait_seconds, add_result)


async def find_owner(services: Services, wanted: LoraRequest, caller_id: str) -> Model:
    """Return the one model whose adapter is meant: the catalog's, everybody's or the caller's own."""
    owners = await find_owners(services.database, services.catalog, wanted.lora_id, caller_id)
    found = [model for model in owners if wanted.model in ("", model.alias)]
    if not found:
        said = await list_adapters(services.database, services.catalog, wanted.model, caller_id)
        raise NotFoundError(f"There is no adapter '{wanted.lora_id}'. {said}", param="lora_id")
    if len(found) > 1:
        names = " and ".join(f"'{model.alias}'" for model in found)
        raise InvalidError(f"{names} have an adapter '{wanted.lora_id}'; say which one with 'model'.", param="model")
    return found[0]


def as_job(wanted: LoraRequest, owner: Model) -> TextJob | ImageJob:
    """Return the job that runs the prompt."""
    said = {name: getattr(wanted, name) for name in wanted.model_fields_set & JobFields.model_fields.keys()}
    said["model"] = owner.alias
    if owner.kind is Kind.IMAGE:
        return ImageJob(kind=Kind.IMAGE, input=_image_input(wanted), **said)
    _check_text_only(wanted)
    given = TextInput(
        messages=[Message(role="user", content=wanted.prompt)],
        adapter=wanted.lora_id,
        seed=wanted.seed,
        max_tokens=wanted.max_tokens,
        temperature=wanted.temperature,
    )
    return TextJob(kind=Kind.TEXT, input=given, **said)


def _image_input(wanted: LoraRequest) -> ImageInput:
    for name in ("max_tokens", "temperature"):
        if getattr(wanted, name) is not None:
            raise InvalidError(
                f"'{name}' is for text adapters, '{wanted.lora_id}' is for images; take it out.", param=name
            )
    same = {name: getattr(wanted, name) for name in OF_IMAGES if getattr(wanted, name) is not None}
    strength = WHOLE if wanted.strength is None else wanted.strength
    adapters = [AdapterUse(id=wanted.lora_id, strength=strength)]
    return ImageInput(prompt=wanted.prompt, seed=wanted.seed, adapters=adapters, **same)


def _check_text_only(wanted: LoraRequest) -> None:
    """Refuse what an adapter for text cannot do, rather than leave it undone."""
    for name in ("negative_prompt", "steps"):
        if getattr(wanted, name) is not None:
            raise InvalidError(
                f"'{name}' is for image adapters, '{wanted.lora_id}' is for text; take it out.", param=name
            )
    if wanted.strength not in (None, WHOLE):
        raise InvalidError("A text adapter works whole: leave 'strength' out, or send 1.", param="strength")
    if wanted.safety_mode is SafetyMode.BLOCK:
        raise InvalidError(
            "Text is not filtered here, so 'safety_mode' can only be 'off'; leave it out.",
            param="safety_mode",
        )


def add_result(view: JsonObject) -> JsonObject:
    """Return a job's view with its result, and what it took in three numbers."""
    output, metrics, usage = view["output"] or {}, view["metrics"], view["usage"]
    latency_ms = None
    if "run_ms" in metrics:
        latency_ms = round(metrics.get("queue_ms", 0) + metrics["run_ms"], 1)
    took = {"latency_ms": latency_ms, "tokens": usage.get("completion_tokens"), "gpu": metrics.get("device")}
    result = view["artifacts"][0]["url"] if view["kind"] == Kind.IMAGE and view["artifacts"] else output.get("text")
    return {**view, "result": result, "metrics": {**metrics, **took}}
