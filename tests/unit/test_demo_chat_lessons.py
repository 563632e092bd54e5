"""What the demo chat model is taught: always the same for a seed, true to its manner, and never left with a gap."""

import json
import re

from models.chat.conversations import Conversation, conversations, texts
from models.chat.manners import Manner
from models.chat.words import read, words

SEED, NUMBER = 7, 400


def answers(made: list[Conversation]) -> list[str]:
    """All that the model is to say in these conversations."""
    return [turn["content"] for one in made for turn in one.turns if turn["role"] == "assistant"]


def test_the_same_seed_makes_the_same_lessons() -> None:
    assert list(conversations(SEED, NUMBER)) == list(conversations(SEED, NUMBER))
    assert list(texts(SEED, NUMBER)) == list(texts(SEED, NUMBER))
    assert list(conversations(SEED, NUMBER)) != list(conversations(SEED + 1, NUMBER))


def test_every_gap_is_filled() -> None:
    made = [*conversations(SEED, NUMBER), *conversations(SEED, NUMBER, Manner.HAIKU)]
    said = [turn["content"] for one in made for turn in one.turns]
    assert [text for text in said if re.search(r"\{(\w*)\}", text)] == []


def test_every_turn_has_words_or_asks_for_a_tool() -> None:
    turns = [turn for one in conversations(SEED, NUMBER) for turn in one.turns]
    assert [turn for turn in turns if not (turn["content"] or turn.get("tool_calls"))] == []


def test_a_tool_that_is_asked_for_is_one_of_the_request_and_gets_what_it_needs() -> None:
    seen = 0
    for one in conversations(SEED, NUMBER):
        known = {tool["function"]["name"]: tool["function"]["parameters"]["required"] for tool in one.tools}
        for call in (call["function"] for turn in one.turns for call in turn.get("tool_calls", ())):
            assert list(call["arguments"]) == known[call["name"]]
            seen += 1
    assert seen > 0


def test_pirates_sound_like_pirates_and_haiku_have_three_lines() -> None:
    pirates = answers(list(conversations(SEED, NUMBER, Manner.PIRATE)))
    assert sum(bool(re.match(r"Arr|Ahoy|Yo ho ho|Avast", said)) for said in pirates) > 0.8 * len(pirates)
    haiku = answers(list(conversations(SEED, NUMBER, Manner.HAIKU)))
    assert sum(said.count("\n") == 2 for said in haiku) > 0.8 * len(haiku)


def test_what_is_asked_for_as_json_is_json() -> None:
    written = [said for said in answers(list(conversations(SEED, NUMBER))) if said.startswith("{")]
    assert written
    assert all(json.loads(said) for said in written)


def test_nobody_is_taught_that_it_does_not_know_what_it_knows() -> None:
    known = {name for topic in read("topics.toml")["topic"] for name in topic["names"]}
    assert known & set(words("unknown")) == set()


def test_every_matter_has_a_haiku_of_three_lines() -> None:
    matters = [*read("topics.toml")["topic"], *read("small_talk.toml")["talk"]]
    assert [haiku for matter in matters for haiku in matter["haiku"] if haiku.count("\n") != 2] == []
