"""Lessons in copying: what was said is said again, as it is or as JSON."""

from __future__ import annotations

import json
import random

from models.chat.words import Exchange, invent, pick

ASK_REPEAT = (
    "Repeat after me: {}",
    "Repeat: {}",
    "Say: {}",
    "Please repeat: {}",
    "Repeat this: {}",
    "Echo: {}",
    'Say "{}"',
    "Say exactly: {}",
)
ASK_JSON = ("{} Answer as JSON with {}.", "{} Give me {} as JSON.", "Extract {1} as JSON: {0}", "{} Write {} as JSON.")
PERSON = ("My name is {name}.", "I am {name}.", "This is {name}.", "{name} is my friend.", "I am called {name}.")


def repeat(rng: random.Random) -> Exchange:
    """Ask to say something again, letter by letter."""
    said = _anything(rng)
    return Exchange(rng.choice(ASK_REPEAT).format(said), said, literal=True)


def as_json(rng: random.Random) -> Exchange:
    """Ask for what a sentence says, as JSON."""
    known: dict[str, str | int] = {"name": _name(rng)}
    told = rng.choice(PERSON).format(**known)
    pronoun = "I am" if told.startswith(("I", "My")) else f"{known['name']} is"
    if rng.random() < 0.75:
        known["age"] = rng.randint(1, 99)
        told += f" {pronoun} {known['age']} years old."
    if rng.random() < 0.75:
        known["city"] = pick(rng, "cities")
        told += f" {pronoun.replace(' am', ' live').replace(' is', ' lives')} in {known['city']}."
    keys = rng.sample(list(known), rng.randint(1, len(known)))
    listed = keys[0] if len(keys) == 1 else f"{', '.join(keys[:-1])} and {keys[-1]}"
    ask = rng.choice(ASK_JSON).format(told, listed)
    return Exchange(ask, json.dumps({key: known[key] for key in keys}), literal=True)


def _name(rng: random.Random) -> str:
    return invent(rng).capitalize() if rng.random() < 0.4 else pick(rng, "names")


def _anything(rng: random.Random) -> str:
    kinds = ("invented", "heroes", "things", "emoji", "hangul", "numbers", "adjectives")
    return " ".join(_one(rng, kind) for kind in rng.choices(kinds, (4, 2, 2, 1, 2, 1, 2), k=rng.randint(1, 5)))


def _one(rng: random.Random, kind: str) -> str:
    if kind == "numbers":
        return str(rng.randint(0, 9999))
    return invent(rng) if kind == "invented" else pick(rng, kind)
