"""Identifiers: unique, and sorted by age."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.ids import ALPHABET, RANDOM_CHARACTERS, TIME_CHARACTERS, new_id


def test_an_id_says_what_it_is() -> None:
    identifier = new_id("job")
    prefix, _, body = identifier.partition("_")
    assert prefix == "job"
    assert len(body) == TIME_CHARACTERS + RANDOM_CHARACTERS
    assert set(body) <= set(ALPHABET)


def test_ids_of_one_moment_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1)
    assert len({new_id("job") for _ in range(1000)}) == 1000


@given(st.lists(st.integers(0, 2**55 - 1), min_size=2, max_size=5, unique=True))
def test_ids_sort_by_age(microseconds: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        made = []
        for moment in sorted(microseconds):
            patch.setattr(time, "time_ns", lambda moment=moment: moment * 1000)
            made.append(new_id("job"))
    assert made == sorted(made)
