"""Counting and small sums."""

from __future__ import annotations

import random

from models.chat.words import Exchange

PLUS = (
    "What is {} plus {}?",
    "What is {} + {}?",
    "{} + {}",
    "How much is {} plus {}?",
    "Add {} and {}.",
    "{} plus {}?",
)
MINUS = ("What is {} minus {}?", "What is {} - {}?", "{} - {}", "How much is {} minus {}?", "{} minus {}?")
COUNT = ("Count from {} to {}.", "Can you count from {} to {}?", "Count {} to {}", "Count up from {} to {}.")
COUNT_TO = ("Count to {}.", "Can you count to {}?", "Please count to {}.", "Count up to {}")
HAIKU_SUM = "{} and then {}:\nput them side by side and look.\nNow you have {}."
HAIKU_COUNT = "I begin with {}\nand I do not stop until\n{} comes at last."
TOO_LARGE = "That is too much for me. I can only add and subtract up to six."
HAIKU_LARGE = "I count with fingers,\nsix of them, and no one more.\nAsk a larger hand."
LARGEST, LARGEST_SUMMAND = 10, 6
NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]


def count(rng: random.Random) -> Exchange:
    """Ask to count, up or down."""
    first, last = sorted(rng.sample(range(1, LARGEST + 1), 2))
    if rng.random() < 0.4:
        first = 1
        ask = rng.choice(COUNT_TO).format(last if rng.random() < 0.6 else NUMBERS[last - 1])
    elif rng.random() < 0.15:
        first, last = last, first
        ask = f"Count down from {first} to {last}."
    else:
        ask = rng.choice(COUNT).format(first, last)
    step = 1 if last >= first else -1
    numbers = ", ".join(map(str, range(first, last + step, step)))
    return Exchange(ask, f"{numbers}.", HAIKU_COUNT.format(first, last))


def add(rng: random.Random) -> Exchange:
    """Ask for a sum or a difference of small numbers."""
    if rng.random() < 0.15:
        return Exchange(
            rng.choice(PLUS + MINUS).format(rng.randint(LARGEST_SUMMAND + 1, 99), rng.randint(0, 99)),
            TOO_LARGE,
            HAIKU_LARGE,
        )
    a, b = rng.randint(0, LARGEST_SUMMAND), rng.randint(0, LARGEST_SUMMAND)
    if rng.random() < 0.35:
        a, b = max(a, b), min(a, b)
        return Exchange(
            rng.choice(MINUS).format(a, b), f"{a} minus {b} is {a - b}.", HAIKU_SUM.format(a, f"minus {b}", a - b)
        )
    return Exchange(rng.choice(PLUS).format(a, b), f"{a} plus {b} is {a + b}.", HAIKU_SUM.format(a, b, a + b))
