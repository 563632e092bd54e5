"""How large bodies and files may be, and what a sender is told to do instead."""

from __future__ import annotations

from dataclasses import dataclass, replace

from producer_api.settings import ApiSettings
from schemas.errors import TooLargeError

MIB = 2**20
ROUND_MIB = 10
"""From here on nobody minds what is behind the point."""
FORM_BYTES = 64 * 2**10
"""What a form may have around its file."""


@dataclass(frozen=True, slots=True)
class Limit:
    """So many bytes at most."""

    bytes: int
    advice: str = "send less at once"

    def in_form(self) -> Limit:
        """Return how large a form may be whose file is held to this."""
        return replace(self, bytes=self.bytes + FORM_BYTES)

    def error(self, what: str) -> TooLargeError:
        """Return the refusal of something larger."""
        size = self.bytes / MIB
        shown = f"{size:,.0f}" if size >= ROUND_MIB else f"{size:.3g}"
        return TooLargeError(f"{what} is larger than {shown} MiB; {self.advice}.")


def file_limit(settings: ApiSettings) -> Limit:
    """Return how large an uploaded file may be."""
    return Limit(settings.max_file_bytes, "split it into several")


def lora_limit(settings: ApiSettings) -> Limit:
    """Return how large an adapter may be, whichever way it comes."""
    return Limit(settings.max_lora_bytes, "no adapter may be")


def lora_form_limit(settings: ApiSettings) -> Limit:
    """Return how large an adapter in a form may be; larger ones have another way in."""
    if settings.max_lora_bytes <= settings.max_lora_form_bytes:
        return lora_limit(settings)
    advice = "POST /v1/loras/uploads gives an address to which you can PUT a larger one"
    return Limit(settings.max_lora_form_bytes, advice)
