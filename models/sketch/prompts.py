"""How people ask for a figure: the words Sketch knows, and the many ways to put them."""

from __future__ import annotations

import random
import string
import tomllib
from pathlib import Path

from models.sketch.figures import COLOURS, SHAPES

_WORDS = tomllib.loads((Path(__file__).parent / "words.toml").read_text(encoding="utf-8"))
BEFORE: list[str] = _WORDS["before"]
AFTER: list[str] = _WORDS["after"]
OTHER: list[str] = _WORDS["other"]
LIKE: dict[str, list[str]] = _WORDS["like"]
PATTERNS = ("a {c} {s}",) * 6 + ("{c} {s}", "the {c} {s}", "one {c} {s}", "a {s} in {c}", "{s} , {c}")


def vocabulary() -> list[str]:
    """List every word that is one token."""
    shapes = [word for shape in SHAPES for word in (shape, f"{shape}s", *LIKE.get(shape, []))]
    return sorted({*COLOURS, *shapes, *BEFORE, *AFTER, *OTHER})


def ask(rng: random.Random, colour: str, shape: str) -> str:
    """Ask for a figure, sometimes without saying all of it, among words that mean nothing here."""
    chance = rng.random()
    if chance < 0.1:  # what guidance compares with
        return ""
    if chance < 0.13:
        return " ".join(_noise(rng) for _ in range(rng.randint(1, 6)))
    if chance < 0.18:
        asked = rng.choice((colour, f"something {colour}", f"a {colour} shape"))
    elif chance < 0.23:
        asked = rng.choice((shape, f"a {shape}", f"any {shape}"))
    else:
        asked = rng.choice(PATTERNS).format(c=colour, s=_say(rng, shape))
    return _among(rng, asked) if rng.random() < 0.35 else asked


def _say(rng: random.Random, shape: str) -> str:
    """Name a shape: mostly by its name, now and then in the plural or by another name."""
    return rng.choice((f"{shape}s", *LIKE.get(shape, []))) if rng.random() < 0.1 else shape


def _among(rng: random.Random, asked: str) -> str:
    before = [rng.choice(BEFORE) for _ in range(rng.randint(0, 4))]
    after = [_noise(rng) for _ in range(rng.randint(0, 5))]
    return " ".join([*before, asked, *after])


def _noise(rng: random.Random) -> str:
    """Return a word that says nothing about the figure: a common one, or letters that are no word."""
    if rng.random() < 0.75:
        return rng.choice(AFTER + OTHER)
    return "".join(rng.choice(string.ascii_lowercase) for _ in range(rng.randint(2, 9)))
