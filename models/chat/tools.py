"""Lessons in asking for a tool, in Hermes' words, and in saying what came out."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from models.chat.knowledge import talk
from models.chat.manners import Manner, say
from models.chat.words import pick

Turn = dict[str, Any]


@dataclass(frozen=True)
class Wish:
    """A question that wants a tool: with which arguments, and what the tool and then the model say."""

    ask: str
    arguments: tuple[str | int, ...]
    result: str
    say: str


@dataclass(frozen=True)
class Tool:
    """A function that the model may ask for."""

    name: str
    description: str
    properties: dict[str, str]
    wish: Callable[[random.Random], Wish] = field(repr=False)

    @property
    def definition(self) -> dict[str, Any]:
        """Return it as a request would."""
        properties = {name: {"type": kind} for name, kind in self.properties.items()}
        parameters = {"type": "object", "properties": properties, "required": list(properties)}
        return {
            "type": "function",
            "function": {"name": self.name, "description": self.description, "parameters": parameters},
        }


def called(rng: random.Random, manner: Manner) -> tuple[list[Turn], list[Turn]]:
    """Return tools, and a conversation that uses one of them or needs none."""
    tools = list({tool.name: tool for tool in rng.sample(TOOLS, rng.randint(1, 2))}.values())
    if rng.random() < 0.2:
        plain = talk(rng)
        return [tool.definition for tool in tools], [_user(plain.ask), _assistant(say(rng, plain, manner))]
    tool = rng.choice(tools)
    wish = tool.wish(rng)
    arguments = dict(zip(tool.properties, wish.arguments, strict=True))
    call = {"type": "function", "function": {"name": tool.name, "arguments": arguments}}
    turns = [_user(wish.ask), {"role": "assistant", "content": "", "tool_calls": [call]}]
    if rng.random() < 0.6:
        turns += [{"role": "tool", "content": wish.result}, _assistant(wish.say)]
    return [one.definition for one in tools], turns


def _user(words: str) -> Turn:
    return {"role": "user", "content": words}


def _assistant(words: str) -> Turn:
    return {"role": "assistant", "content": words}


def _weather(rng: random.Random) -> Wish:
    city, sky, degrees = (
        pick(rng, "cities"),
        rng.choice(["sunny", "rainy", "cloudy", "windy", "snowy"]),
        rng.randint(10, 30),
    )
    ask = rng.choice([
        "What is the weather in {}?", "How is the weather in {}?", "What is the weather like in {}?", "Weather in {}?",
        "Is it cold in {}?", "Will it rain in {}?", "What's the weather in {} today?", "Tell me the weather in {}",
        "Is it raining in {}?", "What is the weather like in {} today?", "How warm is it in {}?",
    ])  # fmt: skip
    told = rng.choice([
        json.dumps({"sky": sky, "degrees": degrees}), f"{sky}, {degrees} degrees",
        json.dumps({"temperature": degrees, "weather": sky}),
    ])  # fmt: skip
    return Wish(ask.format(city), (city,), told, f"In {city} it is {sky} now, with {degrees} degrees.")


def _time(rng: random.Random) -> Wish:
    city, clock = pick(rng, "cities"), f"{rng.randint(0, 23):02}:{rng.randint(0, 59):02}"
    ask = rng.choice(
        [
            "What time is it in {}?",
            "What is the time in {}?",
            "Time in {}?",
            "Tell me the time in {}",
            "How late is it in {}?",
        ]
    )
    told = rng.choice([clock, json.dumps({"time": clock})])
    return Wish(ask.format(city), (city,), told, f"It is {clock} in {city}.")


def _sum(rng: random.Random) -> Wish:
    a, b = rng.randint(1, 20), rng.randint(1, 20)
    ask = rng.choice(
        ["What is {} plus {}?", "Add {} and {}", "{} + {}", "What is {} + {}?", "How much is {} plus {}?"]
    )
    told = rng.choice([str(a + b), json.dumps({"result": a + b})])
    return Wish(ask.format(a, b), (a, b), told, f"{a} plus {b} is {a + b}.")


def _search(rng: random.Random) -> Wish:
    query = pick(rng, "things")
    ask = rng.choice(
        ["Search for {}", "Look up {}", "Find something about {}", "Search the web for {}", "Can you look up {}?"]
    )
    found = rng.randint(1, 50)
    told = json.dumps({"found": found})
    return Wish(ask.format(query), (query,), told, f"I found {found} pages about {query}.")


WEATHER = (
    "Get the weather in a city.",
    "Get the current weather for a location",
    "Get the current weather in a given city.",
    "The weather of a place now",
    "",
)
TIME = ("Get the time in a city.", "Get the current time for a location", "What time it is somewhere", "")
PLACE = ({"city": "string"}, {"location": "string"})
TOOLS = [
    *(Tool("get_weather", said, place, _weather) for said in WEATHER for place in PLACE),
    *(Tool("get_time", said, place, _time) for said in TIME for place in PLACE),
    *[Tool("add", "Add two numbers.", {"a": "number", "b": "number"}, _sum)] * 3,
    *[Tool("search", "Search the web.", {"query": "string"}, _search)] * 2,
]
