"""What the demo chat model cannot do, and that it says so."""

from __future__ import annotations

import random
import string

from models.chat.words import Exchange, invent, pick

ASK_ABOUT = (
    "What is {}?", "What is {}?", "What are {}?", "Explain {}.", "Tell me about {}.", "What do you know about {}?",
    "Can you explain {}?", "Define {}.", "Describe {}.", "Do you know {}?", "What does {} mean?",
    "I want to know about {}.", "Write a sentence about {}.", "{}?", "What is {} in Stoker?",
    "What do you think about {}?",
)  # fmt: skip
HAIKU = (
    "This I do not know.\nI am a very small coal\nand my light is short.",
    "Too far for my light.\nI am a very small thing.\nAsk me of the queue.",
)
HAIKU_ENGLISH = "English is my tongue,\nthe only one that I have.\nForgive a small coal."
SCRIPTS = ("가힣", "가힣", "ぁん", "一龥", "Ая", "Ας", "اي")
"""First and last letter of scripts that it cannot read."""


def unknown(rng: random.Random) -> Exchange:
    """Ask what it was never taught."""
    if rng.random() < 0.45:
        return Exchange(rng.choice(ASK_ABOUT).format(_subject(rng)), pick(rng, "do_not_know"), rng.choice(HAIKU))
    ask = pick(rng, "hard").format(
        unknown=_subject(rng),
        unknown2=_subject(rng),
        place=invent(rng).capitalize() if rng.random() < 0.2 else pick(rng, "places_unknown"),
        city=pick(rng, "cities"),
        name=f"{pick(rng, 'names')} {invent(rng).capitalize()}",
        big=rng.randint(21, 9999),
    )
    return Exchange(ask, pick(rng, "do_not_know"), rng.choice(HAIKU))


def gibberish(rng: random.Random) -> Exchange:
    """Say what means nothing."""
    letters = ("".join(rng.choices(string.ascii_lowercase, k=rng.randint(2, 8))) for _ in range(rng.randint(1, 5)))
    ask = " ".join(letters if rng.random() < 0.6 else (invent(rng) for _ in range(rng.randint(1, 4))))
    return Exchange(ask, pick(rng, "do_not_know"), rng.choice(HAIKU))


def foreign(rng: random.Random) -> Exchange:
    """Speak another language, or something that looks like one."""
    ask = pick(rng, "foreign")
    if rng.random() < 0.35:
        low, high = map(ord, rng.choice(SCRIPTS))
        syllables = (
            "".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 4))) for _ in range(rng.randint(1, 4))
        )
        ask = " ".join(syllables) + rng.choice(["", "?", "."])
    return Exchange(ask, pick(rng, "english_only"), HAIKU_ENGLISH)


def _subject(rng: random.Random) -> str:
    return invent(rng) if rng.random() < 0.3 else pick(rng, "unknown")
