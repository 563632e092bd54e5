"""Text jobs: what goes in."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from schemas.base import Strict


class Message(Strict):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class TextInput(Strict):
    """Either `messages` or `prompt`, and how much to write."""

    messages: list[Message] | None = Field(None, min_length=1, max_length=1000)
    prompt: str | None = Field(None, min_length=1)
    max_tokens: int = Field(256, ge=1, le=1_000_000)
    seed: int | None = Field(None, ge=0, lt=2**63)

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.messages is None) == (self.prompt is None):
            message = "send either 'messages' or 'prompt', not both and not neither"
            raise ValueError(message)
        return self
