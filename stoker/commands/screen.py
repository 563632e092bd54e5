"""Where commands speak: tables and a moving line where a person looks, plain lines and JSON where a script does."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from typing import Any

from stoker.commands.words import columns, fit, harmless, one_line

COLOURS = {
    "succeeded": 32,
    "completed": 32,
    "ready": 32,
    "running": 36,
    "in_progress": 36,
    "finalizing": 36,
    "validating": 33,
    "cancelling": 33,
    "queued": 33,
    "paused": 33,
    "loading": 33,
    "warming": 33,
    "failed": 31,
    "no_worker": 31,
    "revoked": 31,
    "canceled": 90,
    "cancelled": 90,
    "expired": 90,
}
BOLD, DIM = 1, 2
GAP = "  "
CLEAR_LINE = "\r\033[K"
FAR = 1_000_000
"""No line is so long: what is not a terminal gets everything."""


class Screen:
    """Standard output and standard error."""

    def __init__(self, *, colour: bool) -> None:
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # a text stream, or a test's that has it
        self.is_terminal = sys.stdout.isatty()
        self._colour = colour and self.is_terminal
        self._has_status = False
        self._is_mid_line = False

    @property
    def width(self) -> int:
        """How many columns there are."""
        return shutil.get_terminal_size().columns if self.is_terminal else FAR

    def say(self, text: str) -> None:
        """Write a line."""
        self.end_line()
        print(text)

    def write(self, text: str) -> None:
        """Write without ending the line, at once; what a model says cannot steer the terminal."""
        self.status("")
        print(harmless(text) if self.is_terminal else text, end="", flush=True)
        self._is_mid_line = not text.endswith("\n") if text else self._is_mid_line

    def note(self, text: str) -> None:
        """Write a line that is no result: to standard error."""
        self.end_line()
        sys.stdout.flush()
        print(harmless(text), file=sys.stderr, flush=True)

    def status(self, text: str) -> None:
        """Show what is going on in a line that the next thing replaces; only where a person looks."""
        if self.is_terminal and (text or self._has_status):
            if text:
                self.end_line()
            print(CLEAR_LINE + fit(text, self.width - 1), end="", flush=True)
            self._has_status = bool(text)

    def end_line(self) -> None:
        """Go on at the beginning of a line."""
        self.status("")
        if self._is_mid_line:
            print(flush=True)
            self._is_mid_line = False

    def json(self, document: Any) -> None:
        """Write a document: readable on a terminal, on one line elsewhere."""
        print(json.dumps(document, ensure_ascii=False, indent=2 if self.is_terminal else None))

    def json_line(self, document: Any) -> None:
        """Write a document on one line, at once: one of many."""
        print(json.dumps(document, ensure_ascii=False), flush=True)

    def paint(self, text: str, colour: int) -> str:
        """Return text in a colour, where there are colours."""
        return f"\033[{colour}m{text}\033[0m" if self._colour else text

    def status_word(self, status: str, width: int = 0) -> str:
        """Return a status in its colour, padded."""
        padded = f"{status:<{width}}"
        return self.paint(padded, COLOURS[status]) if status in COLOURS else padded

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[object]], empty: str) -> None:
        """Write a table; the last column gives way when there is no room, and an empty table is a sentence."""
        if not rows:
            self.note(empty)
            return
        cells = [[one_line("-" if cell is None else str(cell)) for cell in row] for row in rows]
        widths = [max(map(columns, column)) for column in zip(headers, *cells, strict=True)]
        self.say(self.paint(self._row(headers, widths), BOLD))
        for row in cells:
            self.say(self._row(row, widths))

    def _row(self, cells: Sequence[str], widths: Sequence[int]) -> str:
        """Return one row; right of a number is its unit, so everything stands on the left."""
        padded = [
            self.status_word(cell, width) if cell in COLOURS else cell + " " * (width - columns(cell))
            for cell, width in zip(cells[:-1], widths, strict=False)
        ]
        room = max(1, self.width - sum(widths[:-1]) - len(GAP) * len(padded))
        return GAP.join([*padded, self.status_word(fit(cells[-1], room))]).rstrip()
