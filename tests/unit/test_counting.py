"""Tokenizers that come late, never, or at the second try: requests are not kept waiting for them."""

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from schemas.errors import StartError
from schemas.text import TextInput
from storage.objects.memory import MemoryObjectStore
from tasks import counting
from tasks.counting import Counting
from tasks.text import Cost
from tasks.weights import Weights
from tests.words import CONTEXT, text_models, write_model

GIVEN = TextInput(prompt="one two three")
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
