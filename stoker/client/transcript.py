"""What a job has said so far, kept right over restarts and trimmed logs."""

from __future__ import annotations

from typing import Any

from stoker.client.documents import Event


class Transcript:
    """The text and the progress that a job's events add up to."""

    def __init__(self) -> None:
        self.text = ""
        self.fraction: float | None = None
        self.stage: str | None = None

    def add(self, event: Event) -> None:
        """Take the next event; `restarted` makes what came before void, a snapshot replaces it."""
        data: Any = event.data
        match event.type:
            case "restarted":
                self.text, self.fraction, self.stage = "", None, None
            case "token":
                self.text += data["text"]
            case "snapshot":
                self.text = data["text"]
            case "progress":
                self.fraction, self.stage = data["fraction"], data["stage"]
