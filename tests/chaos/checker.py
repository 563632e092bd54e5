"""Judges histories: a pure function from what the client saw to violations, each with its evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from schemas.jobs import Status
from tests.chaos.history import JobHistory, Look

Violations = dict[str, list[str]]
"""For each count that must be 0, a sentence per job that it counts."""


def check(histories: Iterable[JobHistory]) -> Violations:
    """Judge every job by every rule."""
    found: Violations = {name: [] for name in RULES}
    for history in histories:
        for name, rule in RULES.items():
            found[name] += [f"{history.job_id or history.key}: {sentence}" for sentence in rule(history)]
    return found


def _never_ended(history: JobHistory) -> Iterator[str]:
    if not history.job_ids:
        yield "its submit was never answered with a job"
    elif not history.has_ended:
        last = history.last_look
        yield f"it was last seen {last.status} at attempt {last.attempt}" if last else "it was never seen"


def _double_results(history: JobHistory) -> Iterator[str]:
    outputs = {look.output for look in _successes(history)}
    if len(outputs) > 1:
        yield f"it showed {len(outputs)} outputs"
    if len(set(history.results)) > 1:
        yield f"its link gave {len(set(history.results))} different results"


def _double_jobs(history: JobHistory) -> Iterator[str]:
    if len(history.job_ids) > 1:
        yield f"one idempotency key made the jobs {', '.join(sorted(history.job_ids))}"


def _changed(history: JobHistory) -> Iterator[str]:
    ends = [look for look in history.looks if look.is_terminal]
    if not ends:
        return
    first = min(ends, key=lambda look: look.answered_at)
    for later in history.looks:
        if later.asked_at < first.answered_at:
            continue  # it was asked beside the first: their order is unknown
        if (later.status, later.ending) != (first.status, first.ending):
            yield f"it was {first.status} and then {later.status}, attempt {first.attempt} and then {later.attempt}"
            return


def _went_back(history: JobHistory) -> Iterator[str]:
    for look in history.looks:
        newest = max((before.attempt for before in history.looks if before.answered_at < look.asked_at), default=0)
        if look.attempt < newest:
            yield f"its attempt was {newest} and then {look.attempt}"
            return


def _unexpected_failed(history: JobHistory) -> Iterator[str]:
    end = _end(history)
    if end is None or end.status != Status.FAILED:
        return
    if Status.FAILED not in history.expected.ends or end.error_code not in history.expected.error_codes:
        yield f"it failed with {end.error_code} at attempt {end.attempt}"


def _unexpected_ends(history: JobHistory) -> Iterator[str]:
    end = _end(history)
    if end is not None and end.status is not Status.FAILED and end.status not in history.expected.ends:
        yield f"it ended {end.status}, but was told to end {' or '.join(sorted(history.expected.ends))}"


def _wrong_bytes(history: JobHistory) -> Iterator[str]:
    for look in _successes(history):
        if look.output not in ("", history.expected.output):
            yield f"its output is not what its input must give (attempt {look.attempt})"
            break
    yield from history.wrong_results


def _lying_refusals(history: JobHistory) -> Iterator[str]:
    if history.refusals and history.was_replayed and not history.lost_replies:
        yield "a submit was refused as if nothing had happened, but it had made the job"


def _server_errors(history: JobHistory) -> Iterator[str]:
    yield from history.server_errors


def _successes(history: JobHistory) -> list[Look]:
    return [look for look in history.looks if look.status is Status.SUCCEEDED]


def _end(history: JobHistory) -> Look | None:
    return next((look for look in history.looks if look.is_terminal), None)


RULES: dict[str, Callable[[JobHistory], Iterator[str]]] = {
    "never_ended": _never_ended,
    "double_results": _double_results,
    "double_jobs": _double_jobs,
    "changed": _changed,
    "went_back": _went_back,
    "unexpected_failed": _unexpected_failed,
    "unexpected_ends": _unexpected_ends,
    "wrong_bytes": _wrong_bytes,
    "lying_refusals": _lying_refusals,
    "server_errors": _server_errors,
}
