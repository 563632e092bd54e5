"""The shell around a hint on the queue `webhooks`: it wakes the sender of the process that takes it."""

from __future__ import annotations

from celery import Task

from tasks.routing import SEND_TASK
from tasks.webhooks.sender import Sender


class SendWebhooks(Task):
    """`webhooks.send`: there may be something due."""

    name = SEND_TASK
    ignore_result = True

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    def run(self, *_: object) -> str:
        """Wake the sender."""
        self._sender.poke()
        return "the sender looks"
