"""Stories and poems, put together from the pieces in stories.toml."""

from __future__ import annotations

import random

from models.chat.words import Exchange, capitalize, invent, pick, read, with_article

ASK_STORY = (
    "Tell me a story about {}.",
    "Tell me a story about {}.",
    "Write a story about {}.",
    "Write a short story about {}.",
    "Can you tell me a story about {}?",
    "I want to hear a story about {}.",
    "A story about {}, please.",
    "Tell me a bedtime story about {}.",
    "Tell me about {} who goes on a journey.",
    "Make up a story about {}.",
    "Do you know a story about {}?",
    "Tell me a tale of {}.",
)
ASK_ANY_STORY = (
    "Tell me a story.",
    "Tell me a long story.",
    "Tell me a short story.",
    "Tell a story",
    "Write a story",
    "Do you know a story?",
    "I want a story",
    "Can you tell me a story?",
    "Tell me a bedtime story",
    "Once upon a time",
    "Please tell me something nice, a story.",
)
ASK_POEM = (
    "Write a poem about {}.",
    "A poem about {}, please.",
    "Tell me a poem about {}.",
    "Can you write a poem about {}?",
)
ASK_HAIKU = ("Write a haiku about {}.", "A haiku about {}, please.", "Give me a haiku about {}.", "Haiku about {}")

UNKNOWN_HERO = "I do not know that one, but I know a story about {}."


def story(rng: random.Random) -> Exchange:
    """Ask for a story, mostly about somebody that it knows."""
    hero = pick(rng, "heroes")
    chance = rng.random()
    if chance < 0.25:
        return Exchange(rng.choice(ASK_ANY_STORY), told(rng, hero), short(rng, hero))
    if chance < 0.35:
        ask = rng.choice(ASK_STORY).format(_about(rng, invent(rng)))
        return Exchange(ask, f"{UNKNOWN_HERO.format(with_article(hero))} {told(rng, hero)}", short(rng, hero))
    return Exchange(rng.choice(ASK_STORY).format(_about(rng, hero)), told(rng, hero), short(rng, hero))


def poem(rng: random.Random) -> Exchange:
    """Ask for a poem or a haiku."""
    hero = pick(rng, "heroes")
    if rng.random() < 0.5:
        return Exchange(
            rng.choice(ASK_HAIKU).format(_about(rng, hero)), short(rng, hero), short(rng, hero), literal=True
        )
    lines = "\n".join(rng.choice(read("stories.toml")["poem"])["lines"]).format(hero=hero)
    return Exchange(rng.choice(ASK_POEM).format(_about(rng, hero)), lines, short(rng, hero))


def told(rng: random.Random, hero: str) -> str:
    """Return a story of four sentences."""
    parts = read("stories.toml")
    plot = rng.choice(parts["plot"])
    friend = pick(rng, "friends")
    fill = {"hero": hero, "friend": friend, "Friend": capitalize(friend)}
    fill |= {"adj": pick(rng, "adjectives"), "place": pick(rng, "places")}
    sentences = [rng.choice(parts["open"]), *(rng.choice(plot[part]) for part in ("trouble", "help", "end"))]
    return " ".join(sentences).format(**fill).replace("a old", "an old")


def short(rng: random.Random, hero: str) -> str:
    """Return a story of three lines."""
    return "\n".join(rng.choice(read("stories.toml")["haiku"])["lines"]).format(hero=hero)


def _about(rng: random.Random, hero: str) -> str:
    return rng.choice([with_article(hero)] * 4 + [f"the {hero}", f"{with_article(pick(rng, 'adjectives'))} {hero}"])
