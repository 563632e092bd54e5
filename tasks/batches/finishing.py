"""Finishing: lines that ended are collected for a moment, then stored as one object and ended in one statement."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from schemas.files import JSON_LINES
from storage import batch_lines
from storage.batch_lines import EndedGroup, Finished, LineEnding
from storage.database import Database
from storage.objects.port import ObjectStore, answer_key
from tasks.batches.attempt import EndedLine
from tasks.logs import get_logger
from tasks.patience import insist

GROUP_SECONDS = 0.25
GROUP_LINES = 128
GROUP_BYTES = 4 * 2**20

log = get_logger(__name__)


@dataclass(slots=True)
class _Group:
    timer: asyncio.TimerHandle
    endings: list[LineEnding] = field(default_factory=list)
    answers: bytearray = field(default_factory=bytearray)


class Finishing:
    """The lines of one process that ran and are not ended in SQL yet. It lives in the engine's loop."""

    def __init__(self, database: Database, objects: ObjectStore) -> None:
        self.on_stored: Callable[[], None] = lambda: None
        self.on_over: Callable[[], None] = lambda: None
        """Called when a batch has no line left."""
        self.waiting: set[int] = set()
        """The ids of these lines."""
        self._database = database
        self._objects = objects
        self._groups: dict[str, _Group] = {}
        self._storing: set[asyncio.Task[None]] = set()

    def add(self, batch_id: str, ended: EndedLine) -> None:
        """Take a line that ended; a group is one batch's, for its answers lie beside its input."""
        group = self._groups.get(batch_id)
        if group is None:
            timer = asyncio.get_running_loop().call_later(GROUP_SECONDS, self._store_soon, batch_id)
            group = self._groups[batch_id] = _Group(timer)
        line = ended.line
        group.endings.append(
            LineEnding(
                line.id,
                line.attempt,
                ended.status,
                len(group.answers),
                len(ended.answer),
                ended.usage.get("prompt_tokens", 0),
                ended.usage.get("completion_tokens", 0),
                ended.usage.get("cached_prompt_tokens", 0),
            )
        )
        group.answers += ended.answer
        self.waiting.add(line.id)
        if len(group.endings) >= GROUP_LINES or len(group.answers) >= GROUP_BYTES:
            self._store_soon(batch_id)

    async def flush(self) -> None:
        """Store what there is, and wait until all of it has ended."""
        for batch_id in list(self._groups):
            self._store_soon(batch_id)
        while self._storing:
            await asyncio.wait(self._storing)

    def _store_soon(self, batch_id: str) -> None:
        group = self._groups.pop(batch_id)
        group.timer.cancel()
        task = asyncio.get_running_loop().create_task(self._store(batch_id, group))
        self._storing.add(task)
        task.add_done_callback(self._storing.discard)

    async def _store(self, batch_id: str, group: _Group) -> None:
        try:
            finished = await self._write(batch_id, group)
        except Exception:  # the last wall of a task that nobody waits for; faults never come here
            log.exception("A group of lines could not be ended; the beat gives them back.", batch_id=batch_id)
        else:
            if finished.over:
                self.on_over()
        self.waiting.difference_update(one.id for one in group.endings)
        self.on_stored()

    async def _write(self, batch_id: str, group: _Group) -> Finished:
        """Write the bytes, then the rows; a commit whose answer was lost is repeated and finds its lines ended."""
        name = secrets.token_hex(8)
        key, content = answer_key(batch_id, name), bytes(group.answers)
        await insist(lambda: self._objects.aput(key, content, JSON_LINES))
        ended = EndedGroup(name, group.endings)

        async def finish() -> Finished:
            return await self._database.awrite(batch_lines.finish, ended, later=True)

        return await insist(finish)
