"""Lessons in saying what was said: a name, a place, a thing; as it is, or as JSON."""

from __future__ import annotations

import json
import random

from models.chat.words import Exchange, capitalize, pick

ASK = (
    "{0} Answer as JSON with {1}.",
    "{0} Give me {1} as JSON.",
    "Extract {1} as JSON: {0}",
    "{0} Write {1} as JSON.",
)
PERSON = ("My name is {name}.", "I am {name}.", "This is {name}.", "{name} is my friend.", "I am called {name}.")

ECHOES = (
    ("things", "I like {}.", "I like {}, too! At least I like the word."),
    ("things", "Do you like {}?", "I only know the word {}, but it sounds nice."),
    ("cities", "I live in {}.", "{} must be a nice city."),
    ("cities", "I am from {}.", "{} must be a nice city."),
    ("cities", "Do you know {}?", "I only know the name of {}."),
    ("names", "Do you know {}?", "I do not know {}, but say hello from me."),
    ("names", "{} says hello.", "Say hello to {} from me!"),
    ("heroes", "Have you seen the {}?", "I have never seen the {}. I only know the word."),
    ("heroes", "I saw the {} today.", "The {}! I hope that the {} was friendly."),
)
HAIKU_ECHO = "{}, you say to me.\nI turn the word like a stone\nand give it to you."


def echo(rng: random.Random) -> Exchange:
    """Say something that is best answered with the same word."""
    source, ask, say = rng.choice(ECHOES)
    word = pick(rng, source)
    return Exchange(ask.format(word), say.replace("{}", word), HAIKU_ECHO.format(capitalize(word)), cased=True)


def as_json(rng: random.Random) -> Exchange:
    """Ask for what a sentence says, as JSON."""
    name = pick(rng, "names")
    known: dict[str, str | int] = {"name": name}
    told = rng.choice(PERSON).format(name=name)
    first_person = told.startswith(("I", "My"))
    if rng.random() < 0.75:
        known["age"] = rng.randint(18, 79)
        told += f" {'I am' if first_person else f'{name} is'} {known['age']} years old."
    if rng.random() < 0.75:
        known["city"] = pick(rng, "cities")
        told += f" {'I live' if first_person else f'{name} lives'} in {known['city']}."
    keys = sorted(rng.sample(list(known), rng.randint(1, len(known))), key=list(known).index)
    listed = keys[0] if len(keys) == 1 else f"{', '.join(keys[:-1])} and {keys[-1]}"
    written = json.dumps({key: known[key] for key in keys}, ensure_ascii=False, separators=(",", ":"))
    return Exchange(rng.choice(ASK).format(told, listed), written, literal=True)  # as compact as engines enforce it
