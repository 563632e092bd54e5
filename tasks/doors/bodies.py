"""A batch's line, read as the door that it asks for would read its body, and answered as that door would answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from schemas.base import JsonObject, Strict
from schemas.batches import Endpoint
from schemas.catalog import Catalog, Model
from schemas.errors import InvalidError, JobError, StokerError
from schemas.events import Produced
from schemas.image import ImageInput
from schemas.jobs import Kind
from schemas.refusals import as_public, invalid
from tasks.adapter_names import Meanings, finder, settle_names
from tasks.doors.chat import ChatRequest, Find, Heading, as_completion, read_chat
from tasks.doors.embeddings import EmbeddingsRequest, as_list, read_embeddings
from tasks.doors.failures import door_error, door_param, failure_of
from tasks.doors.images import ImagesRequest, images_of_line, read_images_line
from tasks.doors.native import NativeRequest, as_result, read_native
from tasks.images import seed_of, settle
from tasks.inputs import Input, check_input
from tasks.routing import find_variant

Body = TypeVar("Body")
NOTHING: Meanings = {}


class Line(Strict, Generic[Body]):
    """A line whose body is read at once."""

    custom_id: str
    method: Literal["POST"]
    url: Endpoint
    body: Body


@dataclass(frozen=True, slots=True)
class Made:
    """What became of a line: who made it and when, and what the engine gave."""

    line_id: str
    created_at: float
    output: JsonObject
    usage: JsonObject
    produced: Sequence[Produced] = ()


@dataclass(frozen=True, slots=True)
class Asked:
    """A line that was read: its model, the input of the model's kind, and how the end is told."""

    custom_id: str
    model: Model
    input: Input
    answer: Callable[[Made], JsonObject]
    """Returns the body of the answer; thousands of vectors take a while."""


@dataclass(frozen=True, slots=True)
class Door:
    """How the lines of one endpoint are read, and what makes their answers."""

    line: TypeAdapter[Any]
    body: TypeAdapter[Any]
    read: Callable[[Any, Catalog, Find], tuple[Model, Input]]
    answer: Callable[[Any, Model, Made], JsonObject]


def read_line(endpoint: Endpoint, line: bytes, catalog: Catalog, meanings: Meanings = NOTHING) -> Asked:
    """Read a line that is known to be well-formed; whatever is wrong with its body is raised as its door would.

    Adapters are those of the catalog, and those of the caller that `meanings` has.
    """
    door = DOORS[endpoint]
    try:
        read = door.line.validate_json(line, strict=True)
        model, given = door.read(read.body, catalog, finder(meanings) if meanings else find_variant)
    except ValidationError as error:
        raise _refusal(door, line, error) from None
    check_input(given, model)
    given = settle_names(given, model, meanings)
    if isinstance(given, ImageInput):
        given = settle(given, model, seed_of(line))
    return Asked(read.custom_id, model, given, lambda made: door.answer(read.body, model, made))


def refuse_line(endpoint: Endpoint, error: StokerError, request_id: str | None) -> tuple[int, JsonObject]:
    """Return the status and the body of the answer to a line that failed, for whatever reason."""
    public = failure_of(error.as_job_error()) if isinstance(error, JobError) else error
    if endpoint is Endpoint.JOBS:
        return as_public(public).status, as_public(public).as_wire_error(request_id)
    public.param = door_param(public.param, KINDS[endpoint])
    return door_error(public, request_id)


def _refusal(door: Door, line: bytes, error: ValidationError) -> StokerError:
    """Return what the door itself would have said: it sees no more of a line than the body."""
    try:
        door.body.validate_json(to_json(from_json(line)["body"]), strict=True)
    except ValidationError as alone:
        return invalid(alone)
    return invalid(error)


def _read_chat(wanted: ChatRequest, catalog: Catalog, find: Find) -> tuple[Model, Input]:
    if wanted.stream:
        raise InvalidError("The lines of a batch are not streamed; take 'stream' out.", param="stream")
    return read_chat(wanted, catalog, find)


def _read_embeddings(wanted: EmbeddingsRequest, catalog: Catalog, _: Find) -> tuple[Model, Input]:
    return read_embeddings(wanted, catalog)


def _read_native(wanted: NativeRequest, catalog: Catalog, _: Find) -> tuple[Model, Input]:
    return read_native(wanted, catalog)


def _chat_answer(wanted: ChatRequest, _: Model, made: Made) -> JsonObject:
    return as_completion(Heading(made.line_id, wanted.model, made.created_at), made.output, made.usage)


def _embeddings_answer(wanted: EmbeddingsRequest, model: Model, made: Made) -> JsonObject:
    return as_list(wanted.encoding_format, model.alias, made.output, made.usage)


def _images_answer(_: ImagesRequest, __: Model, made: Made) -> JsonObject:
    return images_of_line(made.created_at, made.output, made.produced)


def _native_answer(_: Any, model: Model, made: Made) -> JsonObject:
    return as_result(model, made.output, made.usage, made.produced)


DOORS = {
    Endpoint.CHAT_COMPLETIONS: Door(
        TypeAdapter(Line[ChatRequest]), TypeAdapter(ChatRequest), _read_chat, _chat_answer
    ),
    Endpoint.EMBEDDINGS: Door(
        TypeAdapter(Line[EmbeddingsRequest]), TypeAdapter(EmbeddingsRequest), _read_embeddings, _embeddings_answer
    ),
    Endpoint.IMAGES: Door(
        TypeAdapter(Line[ImagesRequest]), TypeAdapter(ImagesRequest), read_images_line, _images_answer
    ),
    Endpoint.JOBS: Door(TypeAdapter(Line[NativeRequest]), TypeAdapter(NativeRequest), _read_native, _native_answer),
}
KINDS = {
    Endpoint.CHAT_COMPLETIONS: Kind.TEXT,
    Endpoint.EMBEDDINGS: Kind.EMBEDDING,
    Endpoint.IMAGES: Kind.IMAGE,
}
"""What each of OpenAI's endpoints makes."""
