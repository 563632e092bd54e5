"""What an image engine draws next: who shares a batch, whose turn it is, how many fit."""

import pytest

from workers.engines.image_batching import BatchSizes, Canvas, Group, Turns

MEBIBYTE = 2**20


def group(steps: int = 8, side: int = 64) -> Group:
    return Group(side, side, steps, 3.0, None, has_negative=False)


def canvases(job: str, count: int) -> list[Canvas]:
    return [Canvas(job, index, index, "a red circle", "", []) for index in range(count)]


def names(taken: tuple[Group, list[Canvas]] | None) -> list[str]:
    assert taken is not None
    return [f"{canvas.job}{canvas.index}" for canvas in taken[1]]


@pytest.fixture
def turns() -> Turns[Canvas]:
    return Turns[Canvas]()


def test_images_of_a_group_go_in_the_order_of_their_arrival(turns: Turns[Canvas]) -> None:
    turns.add(group(), canvases("a", 3))
    turns.add(group(), canvases("b", 2))
    assert len(turns) == 5
    assert names(turns.next_batch(lambda _: 4)) == ["a0", "a1", "a2", "b0"]
    assert names(turns.next_batch(lambda _: 4)) == ["b1"]
    assert turns.next_batch(lambda _: 4) is None


def test_groups_take_turns_so_that_a_long_one_holds_up_nobody(turns: Turns[Canvas]) -> None:
    turns.add(group(8), canvases("long", 5))
    turns.add(group(20), canvases("other", 1))
    turns.add(group(30), canvases("third", 1))
    order = [names(turns.next_batch(lambda _: 2))[0] for _ in range(5)]
    assert order == ["long0", "other0", "third0", "long2", "long4"]


def test_each_group_has_its_own_limit(turns: Turns[Canvas]) -> None:
    turns.add(group(side=64), canvases("small", 4))
    turns.add(group(side=128), canvases("large", 4))
    taken = [turns.next_batch(lambda one: 4 if one.width == 64 else 1) for _ in range(2)]
    assert [len(names(one)) for one in taken] == [4, 1]


def test_what_is_put_back_goes_first_and_in_its_order(turns: Turns[Canvas]) -> None:
    turns.add(group(), canvases("a", 4))
    turns.add(group(20), canvases("b", 1))
    taken = turns.next_batch(lambda _: 3)
    assert taken is not None
    turns.put_back(*taken)
    assert names(turns.next_batch(lambda _: 9)) == ["a0", "a1", "a2", "a3"]
    assert names(turns.next_batch(lambda _: 9)) == ["b0"]


def test_a_job_that_is_dropped_leaves_the_others(turns: Turns[Canvas]) -> None:
    turns.add(group(), canvases("a", 2))
    turns.add(group(), canvases("b", 1))
    turns.add(group(20), canvases("a", 1))
    turns.drop("a")
    assert len(turns) == 1
    assert names(turns.next_batch(lambda _: 9)) == ["b0"]
    assert turns.next_batch(lambda _: 9) is None


def of_pixels(pixels: int, steps: int = 8) -> Group:
    return Group(pixels, 1, steps, 3.0, None, has_negative=False)


def test_nothing_is_known_of_memory_so_the_most_is_tried() -> None:
    assert BatchSizes(8).limit(group(), None) == 8
    assert BatchSizes(8).limit(group(), 10 * MEBIBYTE) == 8


def test_what_was_measured_decides_how_many_fit() -> None:
    sizes, large = BatchSizes(16), of_pixels(400)
    sizes.learn(100, 10 * MEBIBYTE)
    fitting = [sizes.limit(of_pixels(100), free * MEBIBYTE) for free in (1000, 100, 5)]
    assert fitting == [16, 9, 1]  # a tenth is left free
    assert sizes.limit(large, 100 * MEBIBYTE) == 2  # four times as large, so four times as much
    assert sizes.limit(large, None) == 16


def test_a_larger_measurement_is_not_forgotten() -> None:
    sizes = BatchSizes(16)
    sizes.learn(100, 20 * MEBIBYTE)
    sizes.learn(100, 10 * MEBIBYTE)
    assert sizes.limit(of_pixels(100), 100 * MEBIBYTE) == 4


def test_memory_that_ran_out_halves_the_batch_for_this_size_and_larger_ones() -> None:
    sizes = BatchSizes(8)
    sizes.halve(100, 8)
    assert [sizes.limit(of_pixels(pixels), None) for pixels in (50, 100, 200)] == [8, 4, 4]
    sizes.halve(100, 4)
    assert sizes.limit(of_pixels(100), None) == 2
    for _ in range(5):
        sizes.halve(100, sizes.limit(of_pixels(100), None))
    assert sizes.limit(of_pixels(100), None) == 1


def test_a_short_batch_that_did_not_fit_says_more_than_a_long_one() -> None:
    sizes = BatchSizes(8)
    sizes.halve(100, 3)
    assert sizes.limit(of_pixels(100), None) == 1


def test_no_batch_is_made_to_take_longer_than_it_may() -> None:
    sizes = BatchSizes(8, most_seconds=4)
    assert sizes.limit(of_pixels(100), None) == 8  # nothing is known yet
    sizes.time(of_pixels(100, steps=10), 1, seconds=1.0)
    assert [sizes.limit(of_pixels(100, steps), None) for steps in (1, 10, 20, 100)] == [8, 4, 2, 1]
    assert [sizes.limit(of_pixels(pixels, 10), None) for pixels in (50, 200, 10_000)] == [8, 1, 1]
    sizes.time(of_pixels(200, steps=10), 1, seconds=2.0)  # it was guessed too slow before it was drawn
    assert sizes.limit(of_pixels(200, 10), None) == 2


def test_a_batch_at_its_best_tells_the_pace() -> None:
    sizes = BatchSizes(8, most_seconds=4)
    for images, seconds in ((1, 1.0), (4, 2.0), (4, 30.0)):
        sizes.time(of_pixels(100, steps=10), images, seconds)
    assert sizes.limit(of_pixels(100, steps=10), None) == 8
    assert sizes.limit(of_pixels(100, steps=20), None) == 4
