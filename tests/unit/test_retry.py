"""Whether and when a failed attempt is tried again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import (
    EngineDeadError,
    EngineError,
    EngineRefusedError,
    JobError,
    JobTimeoutError,
    ModelRemovedError,
    WorkerLostError,
)
from tasks.retry import FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS, as_job_error, delay_before_next

ATTEMPTS = st.integers(1, 10)
RETRYABLE = st.sampled_from([EngineError(), EngineDeadError()])


@given(RETRYABLE, ATTEMPTS)
def test_a_retryable_error_is_tried_until_its_attempts_are_used(error: JobError, max_attempts: int) -> None:
    delays = [delay_before_next(error, errors, max_attempts) for errors in range(max_attempts + 2)]
    assert [delay is not None for delay in delays] == [errors < max_attempts - 1 for errors in range(max_attempts + 2)]


@given(RETRYABLE, ATTEMPTS)
def test_each_delay_is_longer_up_to_a_limit(error: JobError, max_attempts: int) -> None:
    delays = [delay_before_next(error, errors, max_attempts) or 0.0 for errors in range(max_attempts - 1)]
    assert delays == sorted(delays)
    assert delays[:1] in ([], [FIRST_DELAY_SECONDS])
    assert max(delays, default=0.0) <= LONGEST_DELAY_SECONDS


@given(
    st.sampled_from([EngineRefusedError(), JobTimeoutError(), WorkerLostError(), ModelRemovedError()]),
    st.integers(0, 10),
    ATTEMPTS,
)
def test_what_cannot_be_helped_is_never_tried_again(error: JobError, errors: int, max_attempts: int) -> None:
    assert delay_before_next(error, errors, max_attempts) is None


@pytest.mark.parametrize("error", [EngineRefusedError("No."), EngineError("Why."), JobTimeoutError()])
def test_a_job_error_is_told_as_it_is(error: JobError) -> None:
    assert as_job_error(error) is error


@pytest.mark.parametrize("error", [ValueError("secret path"), KeyError("x"), OSError(5, "disk"), MemoryError()])
def test_anything_else_is_an_engine_error_that_tells_nothing(error: BaseException) -> None:
    told = as_job_error(error)
    assert type(told) is EngineError
    assert told.message == EngineError.sentence
    assert told.retryable
