"""Claims that prefer what the engine has in memory, on SQLite and on Postgres."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import claims
from storage.claims import LOOKED_AT, RANK_GAP_SECONDS, Claim, Near, nearest
from storage.database import Database
from tests.contract.sql import QUEUE, submit

HERE = frozenset({"night", "lora_1"})


def claim(database: Database, limit: int = 1, resident: frozenset[str] | None = HERE) -> list[str]:
    wish = Claim(QUEUE, "worker_a", limit, resident=resident)
    return [job.id for job in database.write(claims.claim, wish).jobs]


def test_a_job_whose_adapters_are_here_goes_first(database: Database) -> None:
    away, plain, here = [
        submit(database, rank=rank, adapters=adapters)
        for rank, adapters in ((0.0, "gold"), (0.1, None), (0.2, "lora_1 night"))
    ]
    assert claim(database) == [plain]
    assert claim(database) == [here]
    assert claim(database) == [away]
    assert claim(database) == []


def test_it_overtakes_only_those_that_came_shortly_before(database: Database) -> None:
    old, young = submit(database, rank=0.0, adapters="gold"), submit(database, rank=RANK_GAP_SECONDS + 1)
    assert claim(database) == [old]
    assert claim(database) == [young]


def test_who_has_no_adapters_takes_them_in_their_order(database: Database) -> None:
    away, here = submit(database, rank=0.0, adapters="gold"), submit(database, rank=0.1, adapters="night")
    assert claim(database, resident=None) == [away]
    assert claim(database, resident=None) == [here]


def test_many_are_taken_at_once_and_none_twice(database: Database) -> None:
    ids = {submit(database, rank=number / 100, adapters=f"lora_{number % 3}") for number in range(50)}
    taken = [one for limit in (8, 31, LOOKED_AT) for one in claim(database, limit)]
    assert len(taken) == 50
    assert set(taken) == ids


def test_only_the_best_are_looked_at(database: Database) -> None:
    ids = [submit(database, rank=number / 1000, adapters="gold") for number in range(LOOKED_AT)]
    far = submit(database, rank=0.5, adapters="night")
    assert claim(database) == [ids[0]]
    assert claim(database) == [far]


NEAR = st.builds(
    Near, st.uuids().map(str), st.floats(0, 10), st.sampled_from([None, "night", "gold", "night gold", "lora_1"])
)


@given(st.lists(NEAR, max_size=32), st.frozensets(st.sampled_from(["night", "gold", "lora_1"])))
def test_nobody_is_overtaken_by_much(best: list[Near], resident: frozenset[str]) -> None:
    order = nearest(best, resident)
    assert sorted(order, key=lambda job: job.id) == sorted(best, key=lambda job: job.id)
    for index, job in enumerate(order):
        for later in order[index + 1 :]:
            assert job.rank <= later.rank + RANK_GAP_SECONDS + 1e-9


@pytest.mark.parametrize("resident", [frozenset[str](), HERE])
def test_an_empty_queue_gives_nothing(database: Database, resident: frozenset[str]) -> None:
    assert claim(database, 4, resident) == []
