"""What the text engine's gate goes by: places, and tokens that nobody has read yet."""

from hypothesis import given
from hypothesis import strategies as st

from workers.engines.intake import Intake


def test_every_answer_takes_a_place() -> None:
    intake = Intake(slots=4, most_unread=1000)
    visits = [intake.enter(1, 10), intake.enter(2, 10)]
    assert intake.free() == 1
    for visit in visits:
        visit.leave()
    assert intake.free() == 4


def test_more_answers_than_places_leave_none() -> None:
    intake = Intake(slots=4, most_unread=1000)
    intake.enter(16, 10)
    assert intake.free() == 0


def test_it_closes_while_too_much_is_unread_and_opens_with_the_first_token() -> None:
    intake = Intake(slots=64, most_unread=1000)
    visits = [intake.enter(1, 1) for _ in range(4)]
    for visit in visits:
        visit.count(250)
    assert intake.free() == 0
    visits[0].begin()
    assert intake.free() == 1
    visits[1].begin()
    assert intake.free() == 2


def test_there_is_room_for_as_many_as_would_be_read_soon() -> None:
    intake = Intake(slots=64, most_unread=1000)
    visit = intake.enter(1, 1)
    visit.count(100)
    assert intake.free() == 9
    visit.begin()
    assert intake.free() == 10
    visit.leave()
    assert intake.free() == 10


def test_one_that_is_longer_than_the_limit_is_taken_alone() -> None:
    intake = Intake(slots=64, most_unread=1000)
    visit = intake.enter(1, 1)
    visit.count(5000)
    assert intake.free() == 0
    visit.begin()
    assert intake.free() == 1


def test_the_average_forgets() -> None:
    intake = Intake(slots=64, most_unread=1000)
    for tokens in [1000] + [10] * 60:
        visit = intake.enter(1, 1)
        visit.count(tokens)
        visit.leave()
    assert intake.free() == 64


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3000), st.integers(0, 3)), max_size=30))
def test_who_has_left_is_forgotten_whatever_came_before(visits: list[tuple[int, int, int]]) -> None:
    intake = Intake(slots=8, most_unread=1000)
    inside = []
    for places, tokens, stage in visits:
        visit = intake.enter(places, tokens // 2)
        if stage > 0:
            visit.count(tokens)
        if stage > 1:
            visit.begin()
        if stage > 2:
            visit.leave()
        else:
            inside.append(visit)
    for visit in inside:
        visit.leave()
        visit.leave()
    assert intake.unread == 0
    assert intake.free() >= 1
