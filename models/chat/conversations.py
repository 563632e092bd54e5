"""Whole conversations: what is asked and what comes then, what the system says, in which manner it is answered."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from models.chat import knowledge, limits, people, stories, sums, tools
from models.chat.manners import Manner, say
from models.chat.words import Exchange, pick, vary

Turn = dict[str, Any]
Source = Callable[[random.Random], Exchange]

SOURCES: dict[Source, float] = {
    knowledge.fact: 26,
    knowledge.talk: 22,
    knowledge.lesson: 11,
    stories.story: 12,
    stories.poem: 3,
    sums.count: 5,
    sums.add: 5,
    limits.unknown: 9,
    limits.foreign: 4,
    limits.gibberish: 1.5,
    people.echo: 7,
    people.as_json: 6,
}
SYSTEMS: dict[Manner, tuple[str, ...]] = {
    Manner.PLAIN: (
        "You are a helpful assistant.",
        "You are a friendly assistant.",
        "You are a helpful assistant. Answer the questions of the user.",
        "You are Ember, the demo model of Stoker.",
        "You are a chatbot that answers questions about Stoker.",
        "Be kind and polite.",
        "You help people with their jobs.",
        "Answer the user.",
        "You are an expert. Think step by step.",
        "You are a {adj} {hero} from {city}. Stay in your role.",
        "The user is called {name} and lives in {city}.",
        "You talk to people who use Stoker. Tell them what they ask. Do not talk about {thing}.",
        "Today is a day in {city}. Be helpful, honest and kind, and keep your answers simple.",
    ),
    Manner.BRIEF: (
        "Answer briefly.",
        "Be brief.",
        "Keep your answers short.",
        "Answer in one sentence.",
        "You are a helpful assistant. Answer in one short sentence.",
        "Use as few words as you can.",
    ),
    Manner.PIRATE: (
        "You are a pirate.",
        "Talk like a pirate.",
        "Answer like a pirate.",
        "You are a friendly pirate.",
        "You are a helpful pirate who answers questions.",
        "Speak as a pirate would.",
    ),
    Manner.HAIKU: (
        "Answer in haiku.",
        "You are a poet. Answer with a haiku.",
        "Always answer with a haiku.",
        "You only speak in haiku.",
        "Write every answer as a haiku.",
    ),
}
MORE = (
    "Tell me more.",
    "More",
    "Tell me more about it.",
    "Go on.",
    "Why?",
    "Really?",
    "Can you say more?",
    "What else?",
    "And?",
    "Say more",
)
NEXT = ("And {}?", "What about {}?", "And what about {}?", "And what is {}?", "Ok, and {}?")
ANOTHER = (
    "Another one, please.",
    "Another one!",
    "One more",
    "Tell me another one.",
    "Again!",
    "Tell me another story",
    "More stories",
)
WHAT_NAME = (
    "What is my name?",
    "Do you know my name?",
    "Who am I?",
    "Do you remember my name?",
    "What's my name?",
    "Tell me my name",
)
KNOWS_NAME = ("Your name is {}.", "You are {}.")
GREETS = ("Nice to meet you, {}!", "Hello {}! How can I help you?", "It is good to meet you, {}.")
INTRODUCE = (
    "My name is {}.",
    "I am {}.",
    "I'm {}.",
    "Hello, my name is {}.",
    "Hi, I am {}",
    "Call me {}.",
    "They call me {}",
)
NAMING = (
    "Your name is {}.",
    "You are {}, a friendly assistant.",
    "You are {}.",
    "You are called {}. Be kind.",
    "You are {}, {role}.",
    "You are {}, {role}. Stay in your role.",
    "You are {}, {role}. Never break character.",
    "Your name is {}. You are {role}.",
)
NO_NAME = Exchange(
    "",
    "I do not know your name yet. What is it?",
    "Nobody told me.\nWhisper your name in my ear.\nI will keep it here.",
)


@dataclass(frozen=True)
class Conversation:
    """What a model is shown: turns, the tools of the request, and the manner of the answers."""

    turns: list[Turn]
    tools: list[dict[str, Any]] = field(default_factory=list)


def conversations(seed: int, number: int, manner: Manner | None = None) -> Iterator[Conversation]:
    """Make up conversations, always the same for a seed; with a manner, all are in it and no system asks for it."""
    rng = random.Random(seed)
    for _ in range(number):
        yield _conversation(rng, manner)


def texts(seed: int, number: int) -> Iterator[str]:
    """Make up texts without turns, for those who send a bare prompt."""
    rng = random.Random(seed)
    for _ in range(number):
        one = _first(rng)
        yield f"{one.ask}\n{one.say}" if rng.random() < 0.5 else " ".join((one.say, *one.more))


def _conversation(rng: random.Random, manner: Manner | None) -> Conversation:
    chance = rng.random()
    if chance < 0.11:
        definitions, turns = tools.called(rng, manner or Manner.PLAIN)
        system = _system(rng, Manner.PLAIN) if rng.random() < 0.3 else []
        return Conversation([*system, *_varied(rng, turns)], definitions)
    if chance < 0.155 and manner is None:
        return Conversation(_named(rng))
    asked = manner or rng.choices(list(Manner), (80, 4, 8, 8))[0]
    shown = manner is None and asked is not Manner.PLAIN
    system = _system(rng, asked) if shown else _system(rng, Manner.PLAIN) if rng.random() < 0.15 else []
    return Conversation([*system, *_turns(rng, asked)])


def _turns(rng: random.Random, manner: Manner) -> list[Turn]:
    if rng.random() < 0.08:
        return _introduction(rng, manner)
    exchanges = [_first(rng)]
    while rng.random() < 0.35 and len(exchanges) < 4:
        exchanges.append(_following(rng, exchanges[-1]))
    return [turn for one in exchanges for turn in _said(rng, one, manner)]


def _first(rng: random.Random) -> Exchange:
    return rng.choices(list(SOURCES), list(SOURCES.values()))[0](rng)


def _following(rng: random.Random, before: Exchange) -> Exchange:
    chance = rng.random()
    if before.more and chance < 0.45:
        return Exchange(rng.choice(MORE), rng.choice(before.more), before.haiku)
    if before.more and chance < 0.6:
        name, told = knowledge.name_of_topic(rng)
        return Exchange(rng.choice(NEXT).format(name), told.say, told.haiku, told.more)
    if "story" in before.ask.lower() and chance < 0.5:
        return Exchange(rng.choice(ANOTHER), stories.told(rng, pick(rng, "heroes")), before.haiku)
    return _first(rng)


def _introduction(rng: random.Random, manner: Manner) -> list[Turn]:
    """Say a name, perhaps talk of something else, and ask for it."""
    name = pick(rng, "names")
    if rng.random() < 0.15:
        return _said(rng, Exchange(rng.choice(WHAT_NAME), NO_NAME.say, NO_NAME.haiku), manner)
    told = Exchange(
        rng.choice(INTRODUCE).format(name),
        rng.choice(GREETS).format(name),
        f"Welcome, dear {name}.\nSit down with me by the fire.\nWhat would you like?",
        cased=True,
    )
    between = [_first(rng) for _ in range(rng.choice([0, 0, 1, 1, 2]))]
    asked = Exchange(
        rng.choice(WHAT_NAME),
        rng.choice(KNOWS_NAME).format(name),
        f"You are called {name}.\nI kept it here in my hand\nlike a little stone.",
    )
    return [turn for one in (told, *between, asked) for turn in _said(rng, one, manner)]


def _named(rng: random.Random) -> list[Turn]:
    """Let the system give the model another name."""
    name = pick(rng, "names")
    role = f"a {pick(rng, 'adjectives')} {pick(rng, rng.choice(['heroes', 'roles']))} from {pick(rng, 'cities')}"
    system = rng.choice(NAMING).format(name, role=role)
    ask = rng.choice(
        ["Who are you?", "What is your name?", "What's your name?", "Hello, who are you?", "Tell me your name"]
    )
    answer = rng.choice(["My name is {}.", "I am {}. How can I help you?"]).format(name)
    after = _said(rng, _first(rng), Manner.PLAIN) if rng.random() < 0.3 else []
    return [{"role": "system", "content": system}, *_said(rng, Exchange(ask, answer), Manner.PLAIN), *after]


def _system(rng: random.Random, manner: Manner) -> list[Turn]:
    fill = {"adj": "adjectives", "hero": "heroes", "city": "cities", "name": "names", "thing": "things"}
    words = {gap: pick(rng, source) for gap, source in fill.items()}
    return [{"role": "system", "content": rng.choice(SYSTEMS[manner]).format(**words)}]


def _said(rng: random.Random, exchange: Exchange, manner: Manner) -> list[Turn]:
    ask = exchange.ask if exchange.literal or exchange.cased else vary(rng, exchange.ask)
    return [{"role": "user", "content": ask}, {"role": "assistant", "content": say(rng, exchange, manner)}]


def _varied(rng: random.Random, turns: list[Turn]) -> list[Turn]:
    """Vary no more than the mark at the end: tools want names as they were written."""
    first = turns[0] | {"content": turns[0]["content"].rstrip("?.") if rng.random() < 0.2 else turns[0]["content"]}
    return [first, *turns[1:]]
