"""Who goes first."""

from hypothesis import given
from hypothesis import strategies as st

from schemas.jobs import Priority
from tasks.ranking import HEAD_START_SECONDS, rank

MOMENTS = st.floats(1.6e9, 2.5e9)
CLASSES = [Priority.HIGH, Priority.NORMAL, Priority.LOW]


@given(st.sampled_from(CLASSES), MOMENTS, MOMENTS)
def test_within_a_class_the_elder_goes_first(priority: Priority, one: float, other: float) -> None:
    assert (rank(priority, one) < rank(priority, other)) == (one < other)


@given(MOMENTS)
def test_at_one_moment_the_better_class_goes_first(moment: float) -> None:
    ranks = [rank(priority, moment) for priority in CLASSES]
    assert ranks == sorted(set(ranks))


@given(st.sampled_from(CLASSES), st.sampled_from(CLASSES), MOMENTS)
def test_nobody_waits_for_ever(waiting: Priority, coming: Priority, moment: float) -> None:
    """Whatever comes after the head start of its class is behind one that waits."""
    spread = max(HEAD_START_SECONDS.values()) - min(HEAD_START_SECONDS.values())
    assert rank(waiting, moment) < rank(coming, moment + spread + 1)
