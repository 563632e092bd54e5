"""`stoker watch`: a job live, from its place in the queue over its tokens to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from stoker.client import AsyncStoker, Event, Job, StokerError, Transcript
from stoker.commands.context import LONG_PATIENCE_SECONDS, Context, judge, leaving
from stoker.commands.outline import made_by, output_of, place_of, summary_of, text_of, with_calls
from stoker.commands.screen import DIM, Screen
from stoker.commands.words import one_line

PLACE_SECONDS = 1.0
BAR_COLUMNS = 24


def watch(context: Context) -> int:
    """Watch one job."""
    return watch_job(context, context.client.get(context.typed.job))


def watch_job(context: Context, job: Job) -> int:
    """Show a job until it ends; the exit code says how it ended."""
    screen = context.screen
    view = Lines(screen) if context.wants_json else View(screen)
    with leaving(job.id):
        ended = asyncio.run(show(job, view))
    view.end(ended)
    return judge(screen, ended)


class View:
    """What a person sees of a job that is watched; where nobody looks, only what came out in the end."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._transcript = Transcript()
        self._shown = ""
        """The text that stands on the screen."""

    def wait(self, job: Job) -> None:
        """Show where the job waits."""
        self._screen.status(place_of(job))

    def add(self, event: Event) -> None:
        """Show what the next event changes."""
        self._transcript.add(event)
        if not self._screen.is_terminal:
            return
        match event.type:
            case "started":
                self._screen.status("running")
            case "restarted":
                self._shown = ""
                again = f"Attempt {event.attempt} begins; what the one before it said is void."
                self._screen.say(self._screen.paint(again, DIM))
            case "progress":
                self._screen.status(bar(self._transcript))
            case "log":
                self._screen.say(self._screen.paint(one_line(str(event.data.get("message"))), DIM))
            case "token" | "tool_call" | "snapshot":
                calls = [(call.name, call.arguments) for call in self._transcript.tool_calls]
                self._write_text(with_calls(self._transcript.text, calls))

    def end(self, job: Job, remarks: Sequence[str] = ()) -> None:
        """Show what came out, what there is to say about it, and where it is."""
        screen = self._screen
        text = text_of(job)
        if not screen.is_terminal:
            if job.has_succeeded:
                screen.say(text if text is not None else output_of(job))
            for line in remarks:
                screen.say(line)
            return
        if text is not None:
            self._write_text(text)
        if job.has_succeeded and text is None:
            screen.say(one_line(output_of(job)))
        for line in remarks:
            screen.say(line)
        word, comma, rest = summary_of(job).partition(",")
        screen.say(f"{screen.status_word(word)}{comma}{rest}")
        for line in made_by(job):
            screen.say(screen.paint(line, DIM))

    def _write_text(self, text: str) -> None:
        """Write what is new of the text; one that has become another begins on a new line."""
        if not text.startswith(self._shown):
            self._screen.end_line()
            self._shown = ""
        self._screen.write(text[len(self._shown) :])
        self._shown = text


class Lines(View):
    """The same for a script: one line of JSON for each event."""

    def wait(self, job: Job) -> None:
        """Say nothing: a place in the queue is no event."""

    def add(self, event: Event) -> None:
        """Write the event."""
        self._screen.json_line({"id": event.id, "type": event.type, "at": event.at, "data": event.data})

    def end(self, job: Job, remarks: Sequence[str] = ()) -> None:
        """Say nothing: the last event did."""


async def show(job: Job, view: View) -> Job:
    """Feed a view with a job's place and events; the job when it has ended."""
    async with AsyncStoker(patience_seconds=LONG_PATIENCE_SECONDS) as stoker:
        place = asyncio.create_task(_report_place(stoker, job, view))
        try:
            async for event in stoker.events(job):
                place.cancel()
                view.add(event)
            return await stoker.get(job)
        finally:
            place.cancel()
            with suppress(asyncio.CancelledError, StokerError):  # whoever reads the events meets the same error
                await place


async def _report_place(stoker: AsyncStoker, job: Job, view: View) -> None:
    """Show where the job waits until it runs, or until it is canceled by the first event."""
    while job.status == "queued":
        view.wait(job)
        await asyncio.sleep(PLACE_SECONDS)
        job = await stoker.get(job)


def bar(transcript: Transcript) -> str:
    """Return progress as a bar."""
    fraction = min(1.0, max(0.0, transcript.fraction or 0.0))
    full = round(fraction * BAR_COLUMNS)
    return f"{'█' * full}{'░' * (BAR_COLUMNS - full)} {fraction:4.0%} {one_line(transcript.stage or '')}"
