"""The ways in which the same answer can be said."""

from __future__ import annotations

import random
import re
from enum import StrEnum

from models.chat.words import Exchange, capitalize


class Manner(StrEnum):
    """How an answer sounds."""

    PLAIN = "plain"
    BRIEF = "brief"
    PIRATE = "pirate"
    HAIKU = "haiku"


SEA = {
    "hello": "ahoy", "hi": "ahoy", "you": "ye", "your": "yer", "my": "me", "am": "be", "is": "be", "are": "be",
    "yes": "aye", "the": "th'", "of": "o'", "and": "an'", "for": "fer", "friend": "matey", "friends": "mateys",
    "there": "thar", "money": "gold", "friendly": "jolly", "happy": "jolly", "morning": "mornin'",
    "nothing": "nothin'", "isn't": "ben't", "it's": "'tis", "old": "ol'", "to": "t'",
    "before": "afore", "never": "ne'er", "over": "o'er",
}  # fmt: skip
OPENINGS = ("Arr! ", "Ahoy! ", "Yo ho ho! ", "Avast! ", "Arr, ")
ENDINGS = (", matey!", ", arr!", ", me hearty!")
WORD = re.compile(r"[A-Za-z']+")


def say(rng: random.Random, exchange: Exchange, manner: Manner) -> str:
    """Return the answer of an exchange in a manner."""
    if exchange.literal or manner is Manner.PLAIN:
        return exchange.say
    if manner is Manner.PIRATE:
        return pirate(rng, exchange.say)
    if manner is Manner.HAIKU and exchange.haiku:
        return exchange.haiku
    return first_sentence(exchange.say)


def pirate(rng: random.Random, plain: str) -> str:
    """Say it as they do at sea."""
    said = WORD.sub(lambda found: _at_sea(found[0]), plain)
    if said[-1] in ".!":
        said = said[:-1] + rng.choice(ENDINGS)
    opening = rng.choice(OPENINGS)
    return opening + (said[0].lower() + said[1:] if opening.endswith(", ") and not said.startswith("I ") else said)


def first_sentence(plain: str) -> str:
    """Leave out all but the beginning."""
    return re.split(r"(?<=[.!?]) (?=[A-Z])", plain, maxsplit=1)[0]


def _at_sea(word: str) -> str:
    known = SEA.get(word.lower(), word)
    return capitalize(known) if word[0].isupper() else known
