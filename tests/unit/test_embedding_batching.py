"""What an embedding engine computes next: everything once, within the budget, short jobs first, nobody starves."""

from hypothesis import given
from hypothesis import strategies as st

from workers.engines.batching import (
    LEAST_POLITE_TOKENS,
    QUIET_SECONDS,
    SHORT_STEP_TOKENS,
    SHORT_TEXTS,
    SHORT_TOKENS,
    WIDEST_FILL,
    Batchable,
    Lanes,
    Piece,
    StepBudget,
    fill,
    padded_tokens,
)

LENGTHS = st.lists(st.integers(1, 300), min_size=1, max_size=30)


def job(*lengths: int) -> Batchable:
    made = Batchable()
    made.add(Piece(index, [0] * length) for index, length in enumerate(lengths))
    return made


def lanes(*jobs: Batchable) -> Lanes[Batchable]:
    made = Lanes[Batchable]()
    for one in jobs:
        made.add(one)
    return made


def bulk(length: int = 10) -> Batchable:
    return job(*[length] * 100)


def lengths_of(step: list[tuple[Batchable, Piece]]) -> list[int]:
    return [len(piece.tokens) for _, piece in step]


@given(st.lists(LENGTHS, min_size=1, max_size=8), st.integers(1, 2000))
def test_every_piece_is_taken_once_and_no_step_costs_more_than_its_budget(sizes: list[list[int]], budget: int) -> None:
    jobs = [job(*lengths) for lengths in sizes]
    waiting = lanes(*jobs)
    taken = []
    while step := waiting.next_step(budget, budget):
        assert padded_tokens(piece for _, piece in step) <= budget or len(step) == 1
        assert min(lengths_of(step)) * WIDEST_FILL >= max(lengths_of(step))
        taken += [(jobs.index(owner), piece.index) for owner, piece in step]
        assert waiting.tokens == sum(one.tokens for one in jobs)
    assert sorted(taken) == [(owner, index) for owner, lengths in enumerate(sizes) for index in range(len(lengths))]
    assert waiting.tokens == 0


@given(LENGTHS)
def test_a_job_is_read_longest_first(lengths: list[int]) -> None:
    waiting, seen = lanes(job(*lengths)), list[int]()
    while step := waiting.next_step(500, 500):
        seen += lengths_of(step)
    assert seen == sorted(lengths, reverse=True)


def test_the_oldest_job_is_in_every_step_and_later_ones_fill_it_up() -> None:
    oldest, later = job(20, 20, 20, 20, 20), job(21, 20, 19, 10, 9)
    step = fill([oldest, later], 200)
    assert [owner is oldest for owner, _ in step] == [True] * 5 + [False] * 3
    assert lengths_of(step[5:]) == [20, 19, 10]  # 21 would widen the step, 9 would be mostly padding
    assert [len(piece.tokens) for piece in later.pieces] == [21, 9]


def test_a_piece_that_is_larger_than_the_budget_goes_alone() -> None:
    assert lengths_of(lanes(job(300, 300)).next_step(100, 100)) == [300]


def test_what_is_short() -> None:
    assert job(SHORT_TOKENS).is_short
    assert job(*[1] * SHORT_TEXTS).is_short
    assert not job(SHORT_TOKENS, 1).is_short
    assert not job(*[1] * (SHORT_TEXTS + 1)).is_short


def test_short_jobs_go_ahead_of_bulk() -> None:
    first, second, question = bulk(), bulk(), job(5)
    waiting = lanes(first, second)
    waiting.next_step(100, 100)
    waiting.add(question)
    assert waiting.next_step(100, 100) == [(question, Piece(0, [0] * 5))]


def test_bulk_has_every_second_step_however_many_short_jobs_come() -> None:
    waiting = lanes(bulk())
    was_short = []
    for _ in range(10):
        waiting.add(job(5))
        was_short.append(waiting.next_step(50, 50)[0][0].is_short)
    assert was_short == [True, False] * 5


@given(st.lists(st.integers(1, 128), min_size=1, max_size=40), st.integers(1, 600))
def test_a_step_of_short_jobs_has_the_oldest_and_carries_no_less_than_in_order_of_arrival(
    lengths: list[int], budget: int
) -> None:
    jobs = [job(length) for length in lengths]
    in_order = fill([job(length) for length in lengths], budget)
    step = lanes(*jobs).next_step(budget, 0)
    assert any(owner is jobs[0] for owner, _ in step)
    assert sum(lengths_of(step)) >= sum(lengths_of(in_order))


def test_short_jobs_of_similar_length_go_together_whoever_came_first() -> None:
    waiting = lanes(*(job(length) for length in (12, 20, 9, 40, 13, 21, 11, 20)))
    assert lengths_of(waiting.next_step(60, 0)) == [13, 12, 11, 9]
    assert lengths_of(waiting.next_step(60, 0)) == [21, 20]
    assert lengths_of(waiting.next_step(60, 0)) == [40]


def test_short_jobs_share_a_step() -> None:
    assert len(lanes(*(job(8) for _ in range(12))).next_step(100, 100)) == 12


def test_a_dropped_job_is_forgotten() -> None:
    stays, goes = bulk(), bulk()
    waiting = lanes(goes, stays, job(3))
    waiting.drop(goes)
    waiting.drop(goes)
    assert waiting.next_step(10, 10)[0][0].is_short
    assert waiting.next_step(10, 10)[0][0] is stays


def learned(*steps: tuple[int, float], most: int = 4096) -> StepBudget:
    budget = StepBudget(most)
    for tokens, seconds in steps:
        budget.note(tokens, seconds)
    return budget


def test_steps_are_wide_until_somebody_is_in_a_hurry_and_again_when_nobody_is() -> None:
    budget = StepBudget(4096)
    assert budget.tokens(0) == 4096
    budget.hurry(100)
    assert budget.tokens(100 + QUIET_SECONDS) < 4096
    assert budget.tokens(101 + QUIET_SECONDS) == 4096


def test_a_hurried_step_is_what_takes_fifty_milliseconds() -> None:
    budget = learned(*[(4096, 0.8)] * 12)  # 5,120 tokens in a second
    budget.hurry(0)
    assert abs(budget.tokens(1) - 256) <= 1
    fast = learned(*[(4096, 0.004)] * 12)
    fast.hurry(0)
    assert fast.tokens(1) == 4096


def test_short_jobs_share_wider_steps_than_bulk_may_have_beside_them() -> None:
    slow = learned(*[(4096, 8.0)] * 12)
    slow.hurry(0)
    assert slow.tokens(1) < slow.short_tokens(1) == SHORT_STEP_TOKENS
    fast = learned(*[(4096, 0.1)] * 12)
    fast.hurry(0)
    assert fast.tokens(1) == fast.short_tokens(1) > SHORT_STEP_TOKENS


def test_small_steps_teach_nothing_about_pace() -> None:
    budget = learned(*[(4096, 0.8)] * 12, *[(8, 0.01)] * 50)
    budget.hurry(0)
    assert abs(budget.tokens(1) - 256) <= 1


def test_the_slowest_device_still_gets_something_to_do() -> None:
    budget = learned(*[(4096, 600.0)] * 20)
    budget.hurry(0)
    assert budget.tokens(1) == LEAST_POLITE_TOKENS


@given(st.lists(st.tuples(st.integers(1, 5000), st.floats(0, 100)), max_size=50), st.integers(32, 5000))
def test_no_step_is_ever_wider_than_the_catalog_allows(steps: list[tuple[int, float]], most: int) -> None:
    budget = learned(*steps, most=most)
    budget.hurry(0)
    assert 1 <= budget.tokens(1) <= budget.short_tokens(1) <= most
