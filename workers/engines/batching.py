"""What an embedding engine computes next: short jobs before bulk, similar lengths together, no step too long."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from operator import neg
from typing import Generic, TypeVar

SHORT_TEXTS = 4
SHORT_TOKENS = 512
QUIET_SECONDS = 10.0
POLITE_SECONDS = 0.05
FIRST_POLITE_TOKENS = 256
LEAST_POLITE_TOKENS = 32
SHORT_STEP_TOKENS = 256
"""Short jobs wait for each other in any case: less in few such steps than in many that cost more than they carry."""
PACKED_JOBS = 128
WIDEST_FILL = 2
"""A shorter piece may fill up a step when it is at least one part in so many of the step's width."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One text of a job, as the model's tokens."""

    index: int
    tokens: Sequence[int]


@dataclass(eq=False, slots=True)
class Batchable:
    """A job's pieces that are still to be computed, longest first."""

    pieces: list[Piece] = field(default_factory=list)
    tokens: int = 0
    """Still to be computed."""
    is_short: bool = False

    def add(self, pieces: Iterable[Piece]) -> None:
        """Take in all pieces of a job; whether it is short is judged now."""
        self.pieces = sorted(pieces, key=lambda piece: len(piece.tokens), reverse=True)
        self.tokens = sum(len(piece.tokens) for piece in self.pieces)
        self.is_short = len(self.pieces) <= SHORT_TEXTS and self.tokens <= SHORT_TOKENS


Job = TypeVar("Job", bound=Batchable)


def padded_tokens(step: Iterable[Piece]) -> int:
    """Return what a step costs: every piece is as wide as the widest."""
    lengths = [len(piece.tokens) for piece in step]
    return len(lengths) * max(lengths, default=0)


class Lanes(Generic[Job]):
    """Two lanes, one for short jobs and one for bulk; when both have work they take turns, so neither starves."""

    def __init__(self) -> None:
        self._short: dict[Job, None] = {}  # ordered by arrival
        self._bulk: dict[Job, None] = {}
        self._short_was_last = False

    def add(self, job: Job) -> None:
        """Queue a job behind those of its kind."""
        (self._short if job.is_short else self._bulk)[job] = None

    def drop(self, job: Job) -> None:
        """Forget a job, whatever is left of it."""
        self._short.pop(job, None)
        self._bulk.pop(job, None)

    @property
    def tokens(self) -> int:
        """Return how many tokens wait."""
        return sum(job.tokens for lane in (self._short, self._bulk) for job in lane)

    def next_step(self, short_budget: int, bulk_budget: int) -> list[tuple[Job, Piece]]:
        """Take the next step's pieces: within its padded tokens, but always one piece if there is any."""
        take_short = bool(self._short) and not (self._short_was_last and self._bulk)
        self._short_was_last = take_short
        lane = self._short if take_short else self._bulk
        step = pack(lane, short_budget) if take_short else fill(lane, bulk_budget)
        for job in dict.fromkeys(job for job, _ in step):
            if not job.pieces:
                del lane[job]
        return step


def pack(lane: Iterable[Job], budget: int) -> list[tuple[Job, Piece]]:
    """Take the oldest job's longest piece, and of all others those of similar length that fill the step best."""
    waiting = [(job, piece) for job in islice(lane, PACKED_JOBS) for piece in job.pieces]
    if not waiting:
        return []
    oldest = waiting[0]
    waiting.sort(key=lambda one: len(one[1].tokens), reverse=True)
    begin, end = _best_window([len(piece.tokens) for _, piece in waiting], waiting.index(oldest), budget)
    step = waiting[begin:end]
    for job, piece in step:
        job.pieces.remove(piece)
        job.tokens -= len(piece.tokens)
    return step


def _best_window(lengths: Sequence[int], wanted: int, budget: int) -> tuple[int, int]:
    """Return where in falling lengths a step begins and ends that holds the wanted one and carries the most."""
    best, most = (wanted, wanted + 1), 0
    for begin in range(wanted, -1, -1):
        width = lengths[begin]
        end = min(begin + budget // width, bisect_right(lengths, -width / WIDEST_FILL, key=neg))
        if begin < wanted and end <= wanted:
            break  # with longer ones there is no room for it
        if (carried := sum(lengths[begin:end])) > most:
            best, most = (begin, end), carried
    return best


def fill(lane: Iterable[Job], budget: int) -> list[tuple[Job, Piece]]:
    """Take pieces from the oldest job first, its longest first, then from later ones what fits beside them."""
    step: list[tuple[Job, Piece]] = []
    width = 0
    for job in lane:
        begin = bisect_left(job.pieces, -width, key=lambda piece: -len(piece.tokens)) if step else 0
        end = begin
        while end < len(job.pieces):
            length = len(job.pieces[end].tokens)
            if step and (length * WIDEST_FILL < width or (len(step) + 1) * width > budget):
                break
            width = width or length
            step.append((job, job.pieces[end]))
            job.tokens -= length
            end += 1
        del job.pieces[begin:end]
        if (len(step) + 1) * width > budget:
            break
    return step


class StepBudget:
    """How many tokens a step may have: many while nobody is in a hurry, else what takes about 50 ms here.

    Fifty milliseconds are what bulk may hold up somebody in a hurry; those in a hurry share wider steps.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._polite = float(min(most, FIRST_POLITE_TOKENS))
        self._hurried_at = float("-inf")

    def hurry(self, now: float) -> None:
        """Note that a short job came: those who send one send others soon."""
        self._hurried_at = now

    def tokens(self, now: float) -> int:
        """Return the budget of a step of bulk that begins now."""
        return self._most if now - self._hurried_at > QUIET_SECONDS else round(self._polite)

    def short_tokens(self, now: float) -> int:
        """Return the budget of a step of short jobs that begins now."""
        return min(self._most, max(SHORT_STEP_TOKENS, self.tokens(now)))

    def note(self, tokens: int, seconds: float) -> None:
        """Learn from a step that was computed; small ones say more about overhead than about pace."""
        if seconds > 0 and tokens * 2 >= self._polite:
            wanted = tokens * POLITE_SECONDS / seconds
            self._polite = min(self._most, max(LEAST_POLITE_TOKENS, (self._polite + wanted) / 2))
