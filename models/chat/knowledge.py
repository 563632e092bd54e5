"""What the demo chat model knows by heart: facts about Stoker, small talk and what every child knows."""

from __future__ import annotations

import random
from typing import Any

from models.chat.words import Exchange, capitalize, read

ASK_ONE = (
    "What is {}?",
    "What is {}?",
    "What's {}?",
    "What does {} mean?",
    "What exactly is {}?",
    "What is {} in Stoker?",
)
ASK_MANY = ("What are {}?", "What are {}?", "What do {} do?", "What are {} for?", "What exactly are {}?")
ASK_ANY = (
    "Explain {}.",
    "Explain {} to me.",
    "Can you explain {}?",
    "Tell me about {}.",
    "Tell me what {} means.",
    "Define {}.",
    "Describe {}.",
    "How would you explain {}?",
    "What do you know about {}?",
    "What do you mean by {}?",
    "I want to know about {}.",
    "Can you tell me about {}?",
    "Do you know {}?",
    "Explain {} in simple words.",
    "Explain {} in one sentence.",
    "Write a sentence about {}.",
    "{}?",
    "I have a question about {}.",
)


def fact(rng: random.Random) -> Exchange:
    """Ask about one of the topics."""
    topic = rng.choice(read("topics.toml")["topic"])
    return _exchange(rng, topic, _fact_question(rng, topic))


def talk(rng: random.Random) -> Exchange:
    """Make small talk."""
    matters = read("small_talk.toml")["talk"]
    matter = rng.choices(matters, [len(one["ask"]) for one in matters])[0]
    return _exchange(rng, matter, rng.choice(matter["ask"]))


def lesson(rng: random.Random) -> Exchange:
    """Ask what every child knows."""
    chosen = rng.choice(read("lessons.toml")["lesson"])
    x, y = rng.choice(chosen["pairs"])
    fill = {"x": x, "y": y}
    say = capitalize(rng.choice(chosen["say"]).format(**fill))
    return Exchange(rng.choice(chosen["ask"]).format(**fill), say, chosen["haiku"].format(**fill))


def name_of_topic(rng: random.Random) -> tuple[str, Exchange]:
    """Return a topic by one of its names, for questions that follow another."""
    topic = rng.choice(read("topics.toml")["topic"])
    name = rng.choice(topic["names"])
    return name, _exchange(rng, topic, name)


def _exchange(rng: random.Random, matter: dict[str, Any], ask: str) -> Exchange:
    return Exchange(ask, rng.choice(matter["say"]), rng.choice(matter["haiku"]), tuple(matter.get("more", ())))


def _fact_question(rng: random.Random, topic: dict[str, Any]) -> str:
    if rng.random() < 0.12 * len(topic["ask"]) ** 0.6:
        question: str = rng.choice(topic["ask"])
        return question
    name = rng.choice(topic["names"][:1] * 2 + topic["names"])
    many = name.endswith("s") and name.split()[0] not in ("a", "an", "the", "this", "S3")
    patterns = (ASK_MANY if many else ASK_ONE) * 3 + ASK_ANY
    return capitalize(rng.choice(patterns).format(name))
