"""The gate lets in what the engine can take, isolates suspects, and never locks anybody out for good."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.engine import Capacity
from tasks.gate import Gate, Place

PATIENCE_SECONDS = 10.0
MOMENT_SECONDS = 0.05


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


@pytest.fixture
def gate() -> Gate:
    """A gate before an engine with two slots."""
    gate = Gate()
    gate.open(Capacity(2, 2))
    return gate


def is_waiting(future: Future[Any]) -> bool:
    """Give it a moment to pass, if it can."""
    time.sleep(MOMENT_SECONDS)
    return not future.done()


def enter(gate: Gate) -> Place:
    place = gate.enter()
    assert place is not None
    return place


def test_nobody_enters_before_the_engine_is_ready(threads: ThreadPoolExecutor) -> None:
    gate = Gate()
    waiting = threads.submit(gate.enter)
    assert is_waiting(waiting)
    gate.open(Capacity(1, 1))
    assert waiting.result(PATIENCE_SECONDS) is not None


def test_as_many_enter_as_there_are_slots(gate: Gate, threads: ThreadPoolExecutor) -> None:
    first, _ = enter(gate), enter(gate)
    third = threads.submit(gate.enter)
    assert is_waiting(third)
    first.leave()
    assert third.result(PATIENCE_SECONDS) is not None


def test_what_is_in_the_engine_is_counted_by_the_engine(gate: Gate, threads: ThreadPoolExecutor) -> None:
    enter(gate).begin(Capacity(0, 2))  # it says that one such job fills it
    second = threads.submit(gate.enter)
    assert is_waiting(second)
    assert gate.in_flight == 1
    gate.close()
    assert second.result(PATIENCE_SECONDS) is None


def test_a_job_that_left_the_engine_makes_room_before_its_result_is_stored(gate: Gate) -> None:
    first, second = enter(gate), enter(gate)
    first.begin(Capacity(1, 2))
    second.begin(Capacity(0, 2))
    first.end(Capacity(1, 2))
    assert gate.in_flight == 2
    enter(gate)


def test_leaving_twice_counts_once(gate: Gate, threads: ThreadPoolExecutor) -> None:
    place, _ = enter(gate), enter(gate)
    place.leave()
    place.leave()
    enter(gate)
    assert is_waiting(threads.submit(gate.enter))
    gate.close()


def test_a_closed_gate_sends_everybody_away(gate: Gate, threads: ThreadPoolExecutor) -> None:
    enter(gate), enter(gate)
    waiting = [threads.submit(gate.enter) for _ in range(4)]
    gate.close()
    assert [future.result(PATIENCE_SECONDS) for future in waiting] == [None] * 4
    assert gate.enter() is None
    with gate.isolation() as granted:
        assert not granted


def isolate(gate: Gate, meanwhile: Callable[[], object] = lambda: None) -> bool:
    with gate.isolation() as granted:
        if granted:
            meanwhile()
        return granted


def test_isolation_waits_until_everything_is_stored(gate: Gate, threads: ThreadPoolExecutor) -> None:
    place = enter(gate)
    alone = threads.submit(isolate, gate)
    assert is_waiting(alone)
    place.begin(Capacity(1, 2))
    place.end(Capacity(2, 2))
    assert is_waiting(alone)
    place.leave()
    assert alone.result(PATIENCE_SECONDS)


def test_nobody_enters_during_an_isolation(gate: Gate, threads: ThreadPoolExecutor) -> None:
    with gate.isolation() as granted:
        assert granted
        suspect = gate.admit()
        other = threads.submit(gate.enter)
        assert is_waiting(other)
        suspect.leave()
        assert is_waiting(other)
    assert other.result(PATIENCE_SECONDS) is not None


def test_a_second_isolation_is_refused_at_once(gate: Gate) -> None:
    with gate.isolation() as first, gate.isolation() as second:
        assert (first, second) == (True, False)


def test_whoever_waited_through_an_isolation_goes_before_the_next(gate: Gate, threads: ThreadPoolExecutor) -> None:
    order: list[str] = []
    with gate.isolation():
        other = threads.submit(gate.enter)
        assert is_waiting(other)
        taken = gate.admit()
        taken.begin(Capacity(0, 2))  # the engine stays full for a while after the isolation
    again = threads.submit(isolate, gate, lambda: order.append("isolated"))
    assert is_waiting(again)
    taken.end(Capacity(2, 2))
    taken.leave()
    place = other.result(PATIENCE_SECONDS)
    assert place is not None
    order.append("other")
    place.leave()
    assert again.result(PATIENCE_SECONDS)
    assert order == ["other", "isolated"]


def test_closing_ends_the_wait_for_isolation(gate: Gate, threads: ThreadPoolExecutor) -> None:
    enter(gate)
    alone = threads.submit(isolate, gate)
    assert is_waiting(alone)
    gate.close()
    assert alone.result(PATIENCE_SECONDS) is False


class Model:
    """An engine as the gate sees it, and what must never happen in it."""

    def __init__(self, slots: int, seed: int) -> None:
        self.slots = slots
        self.gate = Gate()
        self.gate.open(Capacity(slots, slots))
        self.lock = threading.Lock()
        self.inside = 0
        self.suspects = 0
        self.unfinished = 0
        self.wrong: list[str] = []
        self.done = 0
        self.random = random.Random(seed)

    def run_clean(self) -> None:
        place = self.gate.enter()
        assert place is not None
        self._change("unfinished", 1)
        self._run(place)
        self._change("unfinished", -1)
        place.leave()
        self._change("done", 1)

    def run_suspects(self) -> None:
        with self.gate.isolation() as granted:
            if granted:
                places = [self.gate.admit() for _ in range(min(2, self.slots))]
                self._change("suspects", 1)
                for place in places:
                    self._run(place)
                    place.leave()
                self._change("suspects", -1)
        self._change("done", 1)

    def _run(self, place: Place) -> None:
        if self.random.random() < 0.1:
            return  # there was nothing to claim
        with self.lock:
            self.inside += 1
            capacity = Capacity(self.slots - self.inside, self.slots)
            place.begin(capacity)
        time.sleep(self.random.random() / 2000)
        with self.lock:
            self.inside -= 1
            place.end(Capacity(self.slots - self.inside, self.slots))

    def _change(self, name: str, by: int) -> None:
        with self.lock:
            setattr(self, name, getattr(self, name) + by)
            if self.inside > self.slots:
                self.wrong.append(f"{self.inside} were in {self.slots} slots")
            if self.suspects and self.unfinished:
                self.wrong.append("a clean job ran beside suspects")


@settings(max_examples=25, deadline=None)
@given(
    slots=st.integers(1, 6),
    hints=st.lists(st.booleans(), min_size=1, max_size=60),
    workers=st.integers(1, 12),
    seed=st.integers(0, 2**32),
)
def test_any_mix_of_hints_ends_and_keeps_the_rules(slots: int, hints: list[bool], workers: int, seed: int) -> None:
    model = Model(slots, seed)
    pool = ThreadPoolExecutor(workers)
    futures = [pool.submit(model.run_suspects if suspects else model.run_clean) for suspects in hints]
    try:
        for future in futures:
            future.result(PATIENCE_SECONDS)
    finally:
        model.gate.close()
        pool.shutdown()
    assert model.wrong == []
    assert model.done == len(hints)
