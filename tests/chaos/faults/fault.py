"""What a fault is: it breaks something, mends it, and proves that it did."""

from __future__ import annotations

from typing import ClassVar

from tests.chaos.scene import Scene


class Fault:
    """One thing that goes wrong once."""

    name: ClassVar[str]
    needs_calm: ClassVar[bool] = False
    """It takes jobs from their worker: none may run that lost a worker before, since the third loss ends a job."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.proof = ""
        """What shows that it really happened; empty when it did not."""
        self.seen = ""
        """What there was to see instead, when there is no proof."""
        self.broken: list[str] = []
        """Sentences about what must not happen under this fault and did."""
        self.held: dict[str, int] = {}
        """The attempts of the jobs that were running when it struck."""

    def note_what_runs(self) -> None:
        """Remember the jobs that are hit; done once more by faults that first wait for some."""
        self.held = self.scene.rows.running()

    async def inject(self) -> None:
        """Break it."""
        raise NotImplementedError

    async def heal(self) -> None:
        """Mend it and wait until whatever was broken is ready again."""

    async def judge(self) -> None:
        """Look for the proof once the platform has recovered."""
