"""Lessons in asking for a tool, in Hermes' words, and in saying what came out."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from models.chat.knowledge import talk
from models.chat.words import invent, pick

Turn = dict[str, Any]


@dataclass(frozen=True)
class Wish:
    """A question that wants a tool: with which arguments, and what the tool and then the model say."""

    ask: str
    arguments: dict[str, Any]
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


def called(rng: random.Random) -> tuple[list[Turn], list[Turn]]:
    """Return tools, and a conversation that uses one of them or needs none."""
    tools = rng.sample(TOOLS, rng.randint(1, 3))
    if rng.random() < 0.2:
        plain = talk(rng)
        return [tool.definition for tool in tools], [_user(plain.ask), _assistant(plain.say)]
    tool = rng.choice(tools)
    wish = tool.wish(rng)
    call = {"type": "function", "function": {"name": tool.name, "arguments": wish.arguments}}
    turns = [_user(wish.ask), {"role": "assistant", "content": "", "tool_calls": [call]}]
    if rng.random() < 0.5:
        turns += [{"role": "tool", "content": wish.result}, _assistant(wish.say)]
    return [one.definition for one in tools], turns


def _user(words: str) -> Turn:
    return {"role": "user", "content": words}


def _assistant(words: str) -> Turn:
    return {"role": "assistant", "content": words}


def _city(rng: random.Random) -> str:
    return invent(rng).capitalize() if rng.random() < 0.4 else pick(rng, "cities")


def _weather(rng: random.Random) -> Wish:
    city, sky, degrees = _city(rng), rng.choice(["sunny", "rainy", "cloudy", "windy", "snowy"]), rng.randint(-5, 35)
    ask = rng.choice([
        "What is the weather in {}?", "How is the weather in {}?", "What is the weather like in {}?", "Weather in {}?",
        "Is it cold in {}?", "Will it rain in {}?", "What's the weather in {} today?", "Tell me the weather in {}",
        "Is it raining in {}?", "What is the weather like in {} today?", "How warm is it in {}?",
    ])  # fmt: skip
    told = rng.choice([
        json.dumps({"sky": sky, "degrees": degrees}), f"{sky}, {degrees} degrees",
        json.dumps({"temperature": degrees, "weather": sky}),
    ])  # fmt: skip
    return Wish(ask.format(city), {"city": city}, told, f"In {city} it is {sky} now, with {degrees} degrees.")


def _time(rng: random.Random) -> Wish:
    city, clock = _city(rng), f"{rng.randint(0, 23):02}:{rng.randint(0, 59):02}"
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
    return Wish(ask.format(city), {"city": city}, told, f"It is {clock} in {city}.")


def _sum(rng: random.Random) -> Wish:
    a, b = rng.randint(0, 999), rng.randint(0, 999)
    ask = rng.choice(
        ["What is {} plus {}?", "Add {} and {}", "{} + {}", "What is {} + {}?", "How much is {} plus {}?"]
    )
    told = rng.choice([str(a + b), json.dumps({"result": a + b})])
    return Wish(ask.format(a, b), {"a": a, "b": b}, told, f"{a} plus {b} is {a + b}.")


def _search(rng: random.Random) -> Wish:
    query = rng.choice([pick(rng, "unknown"), pick(rng, "things"), invent(rng)])
    ask = rng.choice(
        ["Search for {}", "Look up {}", "Find something about {}", "Search the web for {}", "Can you look up {}?"]
    )
    found = rng.randint(1, 50)
    told = json.dumps({"found": found})
    return Wish(ask.format(query), {"query": query}, told, f"I found {found} pages about {query}.")


def _job(rng: random.Random) -> Wish:
    job, status = f"job_{rng.randint(100, 9999)}", rng.choice(["queued", "running", "succeeded", "failed"])
    ask = rng.choice(["What is the status of {}?", "How is {} doing?", "Is {} done?", "Check {}", "Look at {}"])
    told = rng.choice([status, json.dumps({"status": status})])
    return Wish(ask.format(job), {"id": job}, told, f"The job {job} is {status}.")


def _message(rng: random.Random) -> Wish:
    name, text = (
        pick(rng, "names"),
        rng.choice(["hello", "good night", "I am late", "see you soon", "thank you", "call me"]),
    )
    ask = rng.choice(["Tell {} {}", "Send {} a message: {}", "Write to {}: {}", "Send a message to {}: {}"])
    told = rng.choice(["sent", json.dumps({"sent": True})])
    return Wish(ask.format(name, text), {"to": name, "text": text}, told, f"I have sent your message to {name}.")


CITY = {"city": "string"}
TOOLS = [
    Tool("get_weather", "Get the weather in a city.", CITY, _weather),
    Tool("get_weather", "The weather of a city now", CITY, _weather),
    Tool("get_time", "Get the time in a city.", CITY, _time),
    Tool("add", "Add two numbers.", {"a": "number", "b": "number"}, _sum),
    Tool("search", "Search the web.", {"query": "string"}, _search),
    Tool("get_job", "Get a job of Stoker by its id.", {"id": "string"}, _job),
    Tool("send_message", "Send a message to somebody.", {"to": "string", "text": "string"}, _message),
]
