"""What the lessons are made of: lists of words, and ways to say the same thing a little differently."""

from __future__ import annotations

import functools
import random
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CONSONANTS = "bdfgklmnprstvz"
VOWELS = "aaeioou"


@dataclass(frozen=True)
class Exchange:
    """A question and its answer."""

    ask: str
    say: str
    haiku: str = ""
    more: tuple[str, ...] = ()
    literal: bool = False
    """The answer has to be exactly this, in whatever manner."""
    cased: bool = False
    """The question's capitals come again in the answer."""


@functools.cache
def read(name: str) -> dict[str, Any]:
    """Return one of the files beside this one."""
    return tomllib.loads((HERE / name).read_text(encoding="utf-8"))


def words(name: str) -> list[str]:
    """Return one of the lists in words.toml."""
    found: list[str] = read("words.toml")[name]
    return found


def pick(rng: random.Random, name: str) -> str:
    """Choose from one of the lists in words.toml."""
    return rng.choice(words(name))


def invent(rng: random.Random) -> str:
    """Make up a word that nobody has ever seen."""
    word = "".join(rng.choice(CONSONANTS) + rng.choice(VOWELS) for _ in range(rng.randint(2, 3)))
    return word + rng.choice(CONSONANTS) if rng.random() < 0.5 else word


def with_article(noun: str) -> str:
    """Put a or an before a noun."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def capitalize(text: str) -> str:
    """Begin with a capital letter, and leave the rest as it is."""
    return text[:1].upper() + text[1:]


def vary(rng: random.Random, ask: str) -> str:
    """Write a question as people do: sometimes polite, sometimes without capitals or a mark at its end."""
    if not ask.isascii():
        return ask
    if rng.random() < 0.08:
        ask = f"{rng.choice(['Please', 'Hey,', 'Ember,', 'Hi,', 'Hello,', 'Ok,'])} {ask[:1].lower() + ask[1:]}"
    if rng.random() < 0.3:
        ask = ask.lower()
    if rng.random() < 0.25:
        ask = ask.rstrip(".?!")
    elif ask[-1].isalnum():
        ask += rng.choice([".", "", "!", ""])
    return ask
