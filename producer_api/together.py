"""Answers together what is asked together: who comes while an answer is on its way shares the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")


class Together(Generic[Question, Answer]):
    """Collects questions of one event loop; `answer` gets as many as wait, and answers in their order."""

    def __init__(self, answer: Callable[[Sequence[Question]], Awaitable[Sequence[Answer]]], most: int = 64) -> None:
        self._answer = answer
        self._most = most
        self._waiting: list[tuple[Question, asyncio.Future[Answer]]] = []
        self._answering: asyncio.Task[None] | None = None

    async def ask(self, question: Question) -> Answer:
        """Return the answer; a fault is everybody's who asked with it."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, future))
        if self._answering is None or self._answering.done():
            self._answering = asyncio.create_task(self._answer_all())
        return await future

    async def _answer_all(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            try:
                answers = await self._answer([question for question, _ in group])
            except Exception as error:  # noqa: BLE001 - it is raised where it was asked
                for _, future in group:
                    if not future.done():
                        future.set_exception(error)
            else:
                for (_, future), answer in zip(group, answers, strict=True):
                    if not future.done():  # whoever left needs none
                        future.set_result(answer)
