"""Tokenizers that come late, never, or at the second try: requests are not kept waiting for them."""

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import StartError
from schemas.text import Function, Message, Schema, SchemaFormat, TextInput, Tool
from storage.objects.memory import MemoryObjectStore
from tasks import counting
from tasks.counting import Counting
from tasks.text import SHORT_CHARACTERS, SHORT_MESSAGES, Cost, judge
from tasks.weights import Weights
from tests.words import CONTEXT, text_models, write_model

GIVEN = TextInput(prompt="one two three")
ANY_OBJECT = SchemaFormat(type="json_schema", json_schema=Schema(name="any", schema={"type": "object"}))
COUNTED = (TextInput(prompt="one two three", max_tokens=CONTEXT - 3), Cost(3, CONTEXT - 3))


class Shelf(Weights):
    """Weights that a test hands out."""

    def __init__(self, folder: Path) -> None:
        super().__init__(lambda _: MemoryObjectStore(), folder)
        self._model = write_model(folder / "model")
        self.may_go = threading.Event()
        self.is_sick = False
        self.asked = 0

    def locate_files(self, source: str, revision: str, names: Sequence[str]) -> Path:
        """Wait until it may, and then hand over or refuse."""
        self.asked += 1
        assert self.may_go.wait(60)
        if self.is_sick:
            raise StartError("It is not there.")
        return self._model


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """A shelf that is open."""
    made = Shelf(tmp_path)
    made.may_go.set()
    return made


@pytest.fixture
def counter(shelf: Shelf, tmp_path: Path) -> Counting:
    """What is tested, with one model that has tokens."""
    return Counting(text_models(tmp_path), shelf)


async def test_a_tokenizer_is_loaded_once_for_all(counter: Counting, shelf: Shelf, tmp_path: Path) -> None:
    wordy = text_models(tmp_path).models["wordy"]
    counter.begin()
    assert await asyncio.gather(*(counter.judge(GIVEN, wordy) for _ in range(5))) == [COUNTED] * 5
    assert shelf.asked == 1  # and models without tokens were never asked for


def message(text: str) -> Message:
    return Message(role="user", content=text)


SHORT = [
    TextInput(prompt="one two three"),
    TextInput(messages=[message("one two three")]),
    TextInput(prompt="x" * SHORT_CHARACTERS),
]
LONG = [
    TextInput(prompt="x" * (SHORT_CHARACTERS + 1)),
    TextInput(messages=[message("x" * (SHORT_CHARACTERS // 2)), message("y" * (SHORT_CHARACTERS // 2 + 1))]),
    TextInput(messages=[message("x")] * (SHORT_MESSAGES + 1)),
    TextInput(messages=[message("x")], tools=[Tool(type="function", function=Function(name="act"))]),
    TextInput(prompt="x", response_format=ANY_OBJECT),
]


@pytest.mark.parametrize(("given", "is_here"), [*((one, True) for one in SHORT), *((one, False) for one in LONG)])
async def test_only_what_takes_a_while_is_judged_in_a_thread(
    counter: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: TextInput, *, is_here: bool
) -> None:
    threads = []

    def note(*arguments: Any) -> tuple[TextInput, Cost | None]:
        threads.append(threading.current_thread())
        return judge(*arguments)

    monkeypatch.setattr(counting, "judge", note)
    await counter.judge(given, text_models(tmp_path).models["wordy"])
    assert [one is threading.current_thread() for one in threads] == [is_here]


async def test_one_that_comes_late_is_not_waited_for(
    counter: Counting, shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "PATIENCE_SECONDS", 0.01)
    wordy = text_models(tmp_path).models["wordy"]
    shelf.may_go.clear()
    assert await counter.judge(GIVEN, wordy) == (GIVEN, None)
    shelf.may_go.set()
    monkeypatch.setattr(counting, "PATIENCE_SECONDS", 30.0)
    assert await counter.judge(GIVEN, wordy) == COUNTED
    assert shelf.asked == 1


async def test_one_that_could_not_be_had_is_asked_for_again_after_a_while(
    counter: Counting, shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wordy = text_models(tmp_path).models["wordy"]
    shelf.is_sick = True
    for _ in range(3):
        assert await counter.judge(GIVEN, wordy) == (GIVEN, None)
    assert shelf.asked == 1
    shelf.is_sick = False
    monkeypatch.setattr(counting, "RETRY_SECONDS", 0.0)
    assert await counter.judge(GIVEN, wordy) == COUNTED
    assert shelf.asked == 2
