"""Batches: what a line of their files looks like, and what can be wrong with it."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from schemas.base import JsonObject, Strict

CUSTOM_ID_CHARACTERS = 512


class Endpoint(StrEnum):
    """What a batch may ask for; all of its lines ask for the same."""

    CHAT_COMPLETIONS = "/v1/chat/completions"
    EMBEDDINGS = "/v1/embeddings"
    IMAGES = "/v1/images/generations"
    JOBS = "/v1/jobs"


class RequestLine(Strict):
    """A line of a batch's file; what is in `body` is judged when the line runs."""

    custom_id: str = Field(min_length=1, max_length=CUSTOM_ID_CHARACTERS)
    method: Literal["POST"]
    url: Endpoint
    body: JsonObject


class Flaw(Strict):
    """Why a file cannot be a batch: one line, or the whole when there is no number."""

    code: str
    line: int | None
    message: str
    param: str | None = None
