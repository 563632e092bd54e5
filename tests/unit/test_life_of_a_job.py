"""The table of allowed transitions."""

from schemas.jobs import TERMINAL, TRANSITIONS, Status


def test_every_status_has_its_followers() -> None:
    assert set(TRANSITIONS) == set(Status)


def test_four_statuses_end_a_job() -> None:
    assert {"succeeded", "failed", "canceled", "expired"} == TERMINAL


def test_the_table_is_the_drawing_of_the_design() -> None:
    drawn = {
        ("queued", "running"),
        ("queued", "canceled"),
        ("queued", "expired"),
        ("queued", "failed"),  # its model was removed
        ("running", "succeeded"),
        ("running", "failed"),
        ("running", "canceled"),
        ("running", "queued"),
    }
    assert {(before.value, after.value) for before, following in TRANSITIONS.items() for after in following} == drawn


def test_every_life_can_end() -> None:
    reached, frontier = set[Status](), {Status.QUEUED}
    while frontier:
        reached |= frontier
        frontier = {after for before in frontier for after in TRANSITIONS[before]} - reached
    assert reached == set(Status)
    assert all(TRANSITIONS[status] & TERMINAL for status in set(Status) - TERMINAL)
