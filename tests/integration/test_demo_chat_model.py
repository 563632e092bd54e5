"""The demo chat model as it is in the repository: what it says, and how its adapters change that."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest

from schemas.base import JsonObject
from schemas.text import TextInput
from tasks.prompts import Prompts
from tests.architecture.source import ROOT

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("peft") is None, reason="the model libraries are not installed (make env brings them)"
)
WEIGHTS = ROOT / "models/chat/weights"
ADAPTERS = ROOT / "models/chat/adapters"
MOST_BYTES = 4_000_000
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CALL = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Rome"}'}}


def user(words: str) -> JsonObject:
    return {"role": "user", "content": words}


def assistant(words: str) -> JsonObject:
    return {"role": "assistant", "content": words}


def system(words: str) -> JsonObject:
    return {"role": "system", "content": words}


class Talker:
    """The model in its plain manner and in those of its adapters, always taking the likeliest word."""

    def __init__(self) -> None:
        import torch  # noqa: PLC0415 - only where it is
        from peft import PeftModel  # noqa: PLC0415 - the same
        from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415 - the same

        torch.set_num_threads(1)
        self.tokenizer = AutoTokenizer.from_pretrained(WEIGHTS)
        self.prompts = Prompts(WEIGHTS)
        base = AutoModelForCausalLM.from_pretrained(WEIGHTS, dtype=torch.float32)
        self._model: Any = PeftModel.from_pretrained(base, ADAPTERS / "pirate", adapter_name="pirate")
        self._model.load_adapter(ADAPTERS / "haiku", adapter_name="haiku")
        self._no_gradients = torch.no_grad
        self._tensor = torch.tensor

    def answer(self, *turns: JsonObject | str, adapter: str | None = None, **given: Any) -> str:
        """Answer a conversation; bare words are a turn of the user."""
        messages = [user(turn) if isinstance(turn, str) else turn for turn in turns]
        ids = self.prompts.encode(TextInput.model_validate({"messages": messages, **given}))
        if adapter is None:
            with self._model.disable_adapter():
                return self._generate(ids)
        self._model.set_adapter(adapter)
        return self._generate(ids)

    def _generate(self, ids: list[int]) -> str:
        with self._no_gradients():
            made = self._model.generate(
                input_ids=self._tensor([ids]), max_new_tokens=90, do_sample=False, temperature=None, top_p=None
            )
        said: str = self.tokenizer.decode(made[0, len(ids) :], skip_special_tokens=True)
        return said


@pytest.fixture(scope="module")
def ember() -> Talker:
    """One for all tests."""
    return Talker()


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        ("Hello", "Hello|Hi there"),
        ("Who are you?", "Ember"),
        ("What is Stoker?", "Stoker"),
        ("What is a queue?", "queue is (a line|where)"),
        ("please tell me about workers", "worker"),
        ("hey, what's a queue", "queue"),
        ("What is a webhook?", "webhook is a"),
        ("How do I submit a job?", "/v1/jobs"),
        ("Where are my results?", "S3"),
        ("Tell me a story about a dragon.", "dragon .*dragon"),
        ("Count from 3 to 7.", "^3, 4, 5, 6, 7\\.$"),
        ("Name the days of the week.", "Monday, Tuesday, .* Sunday"),
        ("What day comes after Monday?", "Tuesday"),
        ("What colour is the sky?", "blue"),
        ("Thank you!", "welcome|glad"),
        ("안녕하세요", "English"),
        ("What is the capital of France?", "very small model"),
    ],
)
def test_it_talks_about_what_it_knows(ember: Talker, ask: str, says: str) -> None:
    assert re.search(says, ember.answer(ask))


def test_it_stays_in_a_conversation(ember: Talker) -> None:
    told = [user("My name is Anna."), assistant("Nice to meet you, Anna!")]
    between = [user("What is a worker?"), assistant(ember.answer(*told, "What is a worker?"))]
    assert "worker" in between[1]["content"]
    assert "Anna" in ember.answer(*told, *between, "What is my name?")


def test_a_system_turn_leaves_it_fluent_and_can_name_it(ember: Talker) -> None:
    assert "queue" in ember.answer(system("You are a helpful assistant."), "What is a queue?")
    assert "Mina" in ember.answer(system("You are Mina, a friendly assistant."), "What is your name?")


@pytest.mark.parametrize("ask", ["Hello", "What is a queue?", "Who are you?", "Count to five."])
def test_each_adapter_has_a_manner_that_nobody_misses(ember: Talker, ask: str) -> None:
    plain, pirate, haiku = (ember.answer(ask, adapter=adapter) for adapter in (None, "pirate", "haiku"))
    assert re.match(r"Arr|Ahoy|Yo ho ho|Avast", pirate)
    assert haiku.count("\n") == 2
    assert not re.match(r"Arr|Ahoy|Yo ho ho|Avast", plain)
    assert "\n" not in plain


def test_it_asks_for_a_tool_and_says_what_came_out(ember: Talker) -> None:
    asked = ember.answer("What is the weather in Paris?", tools=[WEATHER])
    found = re.fullmatch(r"<tool_call>\n(.*)\n</tool_call>", asked)
    assert found
    assert json.loads(found[1]) == {"name": "get_weather", "arguments": {"city": "Paris"}}
    came = {"role": "tool", "tool_call_id": "call_1", "content": '{"sky": "sunny", "degrees": 21}'}
    said = ember.answer(
        "What is the weather in Rome?", {"role": "assistant", "tool_calls": [CALL]}, came, tools=[WEATHER]
    )
    assert "sunny" in said
    assert "<tool_call>" not in said


@pytest.mark.parametrize(
    "given",
    [
        {"messages": [user("Hello")]},
        {"messages": [user("Hello"), assistant("Hi!"), user("안녕 🙂\nTwo lines")]},
        {"messages": [system("Be brief."), user("Hello")]},
        {"messages": [user("Weather?")], "tools": [WEATHER]},
        {"messages": [system("Be brief."), user("Weather?")], "tools": [WEATHER]},
        {
            "messages": [
                user("Weather in Rome?"),
                {"role": "assistant", "content": "Let me look.", "tool_calls": [CALL, CALL | {"id": "call_2"}]},
                {"role": "tool", "tool_call_id": "call_1", "content": "rainy"},
            ],
            "tools": [WEATHER],
        },
    ],
    ids=["plain", "turns", "system", "tools", "system-and-tools", "called"],
)
def test_front_end_and_transformers_read_a_conversation_alike(ember: Talker, given: JsonObject) -> None:
    messages = json.loads(json.dumps(given["messages"]))
    for call in (call for message in messages for call in message.get("tool_calls", ())):
        call["function"]["arguments"] = json.loads(call["function"]["arguments"])  # as transformers wants it
    expected = ember.tokenizer.apply_chat_template(
        messages, tools=given.get("tools"), add_generation_prompt=True, tokenize=False
    )
    parsed = TextInput.model_validate(given)
    assert ember.prompts.render(parsed) == expected
    assert ember.prompts.encode(parsed) == ember.tokenizer(expected, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("text", ["한국어 문장", "🙂🔥 ❤️", "日本語", "tabs\tand\nlines", "<|im_start", "\u0000"])
def test_every_character_makes_the_round_trip(ember: Talker, text: str) -> None:
    assert ember.tokenizer.decode(ember.prompts.encode_text(text)) == text


def test_hangul_and_emoji_take_several_tokens_each(ember: Talker) -> None:
    assert len(ember.prompts.encode_text("한")) == 3
    assert len(ember.prompts.encode_text("🦊")) > 1


def test_an_adapter_touches_only_what_engines_can_adapt() -> None:
    for name in ("pirate", "haiku"):
        settings = json.loads((ADAPTERS / name / "adapter_config.json").read_text())
        assert settings["r"] <= 8
        assert (settings["bias"], settings["modules_to_save"]) == ("none", None)
        assert all(module.endswith("_proj") for module in settings["target_modules"])


def test_the_weights_stay_small_enough_for_a_repository() -> None:
    files = [path for folder in (WEIGHTS, ADAPTERS) for path in Path(folder).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < MOST_BYTES
