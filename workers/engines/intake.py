"""How much more an engine that decodes in a common batch should be given: by its places, and by what is unread."""

from __future__ import annotations

import math

MEMORY = 0.9
"""How much an average of prompt lengths keeps of its past at each new prompt."""


class Visit:
    """One request's share of the intake."""

    __slots__ = ("_intake", "_is_over", "places", "unread")

    def __init__(self, intake: Intake, places: int, unread: int) -> None:
        self._intake = intake
        self._is_over = False
        self.places = places
        self.unread = unread

    def count(self, tokens: int) -> None:
        """Say how long the prompt really is."""
        self._intake.change(unread=tokens - self.unread)
        self._intake.note_length(tokens)
        self.unread = tokens

    def begin(self) -> None:
        """Say that the first token came, so that the prompt is read."""
        self._intake.change(unread=-self.unread)
        self.unread = 0

    def leave(self) -> None:
        """Give the places back."""
        if not self._is_over:
            self._is_over = True
            self._intake.change(places=-self.places, unread=-self.unread)


class Intake:
    """Counts the places that are taken and the tokens that wait to be read."""

    def __init__(self, slots: int, most_unread: int) -> None:
        self.most_unread = most_unread
        self._slots = slots
        self._taken = 0
        self._unread = 0
        self._average = 0.0

    @property
    def unread(self) -> int:
        """Return how many tokens wait to be read."""
        return self._unread

    def enter(self, places: int, guess: int) -> Visit:
        """Take places, before the prompt's tokens are counted."""
        self.change(places=places, unread=guess)
        return Visit(self, places, guess)

    def free(self) -> int:
        """Return how many more requests of average length would be read soon and find a place."""
        free = max(0, self._slots - self._taken)
        left = self.most_unread - self._unread
        if left <= 0:
            return 0
        return min(free, math.ceil(left / self._average)) if self._average else free

    def change(self, *, places: int = 0, unread: int = 0) -> None:
        """Count; visits call this, nobody else."""
        self._taken += places
        self._unread += unread

    def note_length(self, tokens: int) -> None:
        """Let the average learn of a prompt; visits call this, nobody else."""
        self._average = tokens if not self._average else MEMORY * self._average + (1 - MEMORY) * tokens
