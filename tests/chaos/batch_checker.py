"""Judges a batch that was struck: a pure function from what its caller was given to violations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from schemas.base import JsonObject
from tests.chaos.checker import Violations

STOPPED = {"cancelled": "batch_cancelled", "expired": "batch_expired"}
"""What good lines may say that a batch left behind which ended so."""


@dataclass(frozen=True)
class PlannedLine:
    """A line, and how it must end."""

    line: JsonObject
    vector: list[float] | None
    """What must be answered; nothing when the line is wrong in itself."""
    attempts: int = 1
    """How many it takes when nothing breaks."""
    error: str | None = None
    """Why there is no answer, where it is not the line's own."""


@dataclass
class Struck:
    """A batch, and what came of it."""

    name: str
    planned: dict[str, PlannedLine]
    view: JsonObject = field(default_factory=dict)
    output: list[JsonObject] = field(default_factory=list)
    errors: list[JsonObject] = field(default_factory=list)
    attempts: list[int] = field(default_factory=list)
    """Of each line."""
    in_flight: int = 0
    """How many lines the dead held when they died."""
    deaths: int = 0
    most_deaths: int = 0
    """How many workers died of its lines, and how many may."""
    end: str = "completed"


def check_batches(batches: list[Struck]) -> Violations:
    """Judge every batch by every rule."""
    return {
        name: [f"{one.name}: {sentence}" for one in batches for sentence in rule(one)] for name, rule in RULES.items()
    }


def _name(line: JsonObject) -> str:
    return str(line["custom_id"])


def _wrong_ends(struck: Struck) -> Iterator[str]:
    if struck.view.get("status") != struck.end:
        yield f"it ended {struck.view.get('status')}, not {struck.end}"


def _lost(struck: Struck) -> Iterator[str]:
    told = {_name(line) for line in (*struck.output, *struck.errors)}
    yield from (f"{name} is in no file" for name in sorted(struck.planned.keys() - told))
    yield from (f"{name} was never asked for" for name in sorted(told - struck.planned.keys()))


def _doubled(struck: Struck) -> Iterator[str]:
    counted = Counter(_name(line) for line in (*struck.output, *struck.errors))
    yield from (f"{name} is there {count} times" for name, count in counted.items() if count > 1)


def _wrong_errors(struck: Struck) -> Iterator[str]:
    for line in struck.errors:
        planned = struck.planned.get(_name(line))
        said = (line["error"] or {}).get("code")
        is_stopped = said is not None and said == STOPPED.get(struck.end)
        is_wrong = planned is None or (planned.vector is not None or said != planned.error)
        if is_wrong and not (planned and is_stopped):
            yield f"{_name(line)} is no error: {line['response'] or line['error']}"


def _wrong_answers(struck: Struck) -> Iterator[str]:
    for line in struck.output:
        planned = struck.planned.get(_name(line))
        if planned is None or line["response"]["body"]["data"][0]["embedding"] != planned.vector:
            yield f"{_name(line)} has another line's answer, or none"


def _disordered(struck: Struck) -> Iterator[str]:
    places = {name: place for place, name in enumerate(struck.planned)}
    for lines in (struck.output, struck.errors):
        told = [places.get(_name(line), -1) for line in lines]
        if told != sorted(told):
            yield "a file is not in the order of the input"


def _wrong_counts(struck: Struck) -> Iterator[str]:
    counts = {"total": len(struck.planned), "completed": len(struck.output), "failed": len(struck.errors)}
    if struck.view.get("request_counts") != counts:
        yield f"it says {struck.view.get('request_counts')} and its files {counts}"


def _run_again(struck: Struck) -> Iterator[str]:
    again = sum(struck.attempts) - sum(one.attempts for one in struck.planned.values())
    if again > struck.in_flight:
        yield f"{again} lines ran again, and {struck.in_flight} were in flight"


def _too_deadly(struck: Struck) -> Iterator[str]:
    if struck.deaths > struck.most_deaths:
        yield f"{struck.deaths} workers died of its lines, and {struck.most_deaths} may"


RULES: dict[str, Callable[[Struck], Iterator[str]]] = {
    "wrong_ends": _wrong_ends,
    "lost_lines": _lost,
    "doubled_lines": _doubled,
    "wrong_errors": _wrong_errors,
    "wrong_answers": _wrong_answers,
    "disordered_files": _disordered,
    "wrong_counts": _wrong_counts,
    "run_again_too_often": _run_again,
    "too_many_deaths": _too_deadly,
}
