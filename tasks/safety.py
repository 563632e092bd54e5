"""What keeps prompts and pictures within bounds: a checker that the catalog names, and a plain one of our own."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Protocol

from schemas.catalog import Catalog, Model
from schemas.errors import CatalogError, ContentPolicyError
from schemas.image import ImageInput, SafetyMode, SafetyReport
from tasks.safety_words import find_banned

SKIN_SHARE = 0.5
"""A picture of which so much has the hue of skin is blocked. A brown circle of the demo model has .51 to .62, what it
draws in other colours at most .40, unless an adapter paints it."""
SAMPLES_A_SIDE = 32
LOWEST_CB, HIGHEST_CB, LOWEST_CR, HIGHEST_CR = 77, 127, 133, 173
"""Where the skin of all people lies in the plane of hues, whatever its brightness (Chai and Ngan, 1999)."""


class SafetyChecker(Protocol):
    """Looks at prompts before they wait and at pictures before anybody sees them. Both may be called in any thread."""

    def judge_prompt(self, prompt: str) -> str | None:
        """Return why a prompt is refused, in words for its author; nothing when it is fine."""
        ...

    def judge_picture(self, width: int, height: int, rgb: bytes) -> str | None:
        """Return why a picture is blocked; nothing when it is fine. `rgb` holds its pixels row by row."""
        ...


class BasicChecker:
    """Knows a list of words and the hue of skin. It is a seat belt for a demo, not a judge of pictures."""

    def judge_prompt(self, prompt: str) -> str | None:
        """Look for words of the list, however they are spelled."""
        word = find_banned(prompt)
        return f"the word '{word}' is on its list" if word else None

    def judge_picture(self, width: int, height: int, rgb: bytes) -> str | None:
        """Look how much of a picture has the hue of skin."""
        share = _skin_share(width, height, rgb)
        return f"{share:.0%} of it have the hue of skin" if share >= SKIN_SHARE else None


def _skin_share(width: int, height: int, rgb: bytes) -> float:
    columns = range(0, width, max(1, width // SAMPLES_A_SIDE))
    rows = range(0, height, max(1, height // SAMPLES_A_SIDE))
    starts = [(row * width + column) * 3 for row in rows for column in columns]
    return sum(_is_skin(rgb[start], rgb[start + 1], rgb[start + 2]) for start in starts) / len(starts)


def _is_skin(red: int, green: int, blue: int) -> bool:
    cb = 128 - 0.168736 * red - 0.331264 * green + 0.5 * blue
    cr = 128 + 0.5 * red - 0.418688 * green - 0.081312 * blue
    return LOWEST_CB <= cb <= HIGHEST_CB and LOWEST_CR <= cr <= HIGHEST_CR


CHECKERS = {"basic": "tasks.safety:BasicChecker"}
"""The checkers that have a name; the catalog may say `package.module:name` for others."""


@cache
def find_checker(name: str) -> SafetyChecker:
    """Return the checker of that name; CatalogError when it cannot be had."""
    module, colon, attribute = CHECKERS.get(name, name).partition(":")
    if not colon:
        known = ", ".join(sorted(CHECKERS))
        raise CatalogError(
            f"There is no safety checker '{name}'. Known ones: {known}; others are written package.module:name. "
            "Correct 'safety' in the model's table 'image'."
        )
    try:
        checker: SafetyChecker = getattr(import_module(module), attribute)()
    except (ImportError, AttributeError) as error:
        raise CatalogError(f"The safety checker '{name}' cannot be loaded ({error}); correct 'safety'.") from None
    return checker


def load_checkers(catalog: Catalog) -> None:
    """Load every checker that a catalog names, so that a wrong name stops the start and no job."""
    for model in catalog.models.values():
        if model.image.safety:
            find_checker(model.image.safety)


class Guard:
    """What watches over one job."""

    def __init__(self, given: ImageInput, model: Model) -> None:
        is_on = given.safety_mode is SafetyMode.BLOCK and model.image.safety
        self._name = model.image.safety if is_on else None

    def check_prompt(self, prompt: str) -> None:
        """Refuse a prompt that its checker will not have."""
        why = find_checker(self._name).judge_prompt(prompt) if self._name else None
        if why:
            raise ContentPolicyError(
                f"The prompt was refused by the safety checker '{self._name}': {why}. Ask for something else.",
                param="input.prompt",
            )

    def judge_picture(self, width: int, height: int, rgb: bytes) -> str | None:
        """Return why nobody may see a picture, or a preview of it; nothing when they may."""
        return find_checker(self._name).judge_picture(width, height, rgb) if self._name else None

    def report(self, blocked: int) -> SafetyReport:
        """Return what was done, for the output."""
        mode = SafetyMode.BLOCK if self._name else SafetyMode.OFF
        return SafetyReport(mode=mode.value, checker=self._name, blocked=blocked)
