"""`stoker demo`: one job of every kind that the catalog has, from the queue to the bytes."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from stoker.client import Job, Model, StokerError
from stoker.commands import models
from stoker.commands.context import Context, judge, leaving
from stoker.commands.gallery import Gallery
from stoker.commands.jobs import make_folder, write_all
from stoker.commands.outline import made_by
from stoker.commands.screen import BOLD, DIM
from stoker.commands.watch import View, show

SECONDS_IN_ALL = 50.0
GALLERY_SECONDS = 60.0
TEXTS = ["a cat on a mat", "a kitten on a rug", "the tax law of 1986"]
INPUTS: dict[str, dict[str, Any]] = {
    "text": {"messages": [{"role": "user", "content": "What is a queue?"}], "max_tokens": 80},
    "image": {"prompt": "a red circle"},
    "embedding": {"texts": TEXTS},
}


def demo(context: Context) -> int:
    """Run the demo; 0 only when every job succeeded."""
    chosen = choose(context.client.models())
    if not chosen:
        raise StokerError("The catalog has no model that the demo knows an example for; see `stoker models`.")
    folder = make_folder(context.typed.output)
    began = time.monotonic()
    ended: list[Job] = []
    for index, model in enumerate(chosen):
        left = SECONDS_IN_ALL - (time.monotonic() - began)
        job = _run_one(context, model, left / (len(chosen) - index))
        ended.append(job)
        if job.has_succeeded and job.kind == "image":
            ended += _show_pictures(context, model, job, folder)
    succeeded = sum(job.has_succeeded for job in ended)
    if context.wants_json:
        context.screen.json([job.raw for job in ended])
    else:
        seconds = time.monotonic() - began
        context.screen.say(f"\n{succeeded} of {len(ended)} jobs succeeded in {seconds:.1f} s.")
    return 0 if succeeded == len(ended) else 1


def _show_pictures(context: Context, model: Model, job: Job, folder: Path) -> list[Job]:
    """Save what was drawn; where the model has adapters, draw more with each of them, and hang it side by side."""
    screen = context.screen
    if not model.adapters:
        write_all(context, job, folder)
        return []
    gallery = Gallery(context.client, model)
    screen.status(f"drawing with {len(model.adapters)} adapters")
    drawn = gallery.draw(GALLERY_SECONDS)
    sheet = gallery.hang(drawn, folder)
    screen.note(f"\n{len(drawn)} pictures are in {folder}/. Look at them side by side: {sheet}")
    return list(drawn.values())


def choose(found: Sequence[Model]) -> list[Model]:
    """Return one model of each kind that there is an example for, one that is ready where there is one."""
    chosen: dict[str, Model] = {}
    for model in sorted(found, key=lambda model: models.state_of(model) != "ready"):
        if model.kind in INPUTS:
            chosen.setdefault(model.kind, model)
    return sorted(chosen.values(), key=lambda model: list(INPUTS).index(model.kind))


def _run_one(context: Context, model: Model, seconds: float) -> Job:
    """Submit one job and show how it moves; one that takes too long is canceled, not left behind."""
    screen, client = context.screen, context.client
    job = client.submit(model.kind, model.id, INPUTS[model.kind], metadata={"from": "stoker demo"})
    try:
        with leaving(job.id):
            ended = client.wait(job, seconds) if context.wants_json else _watch(context, job, seconds)
    except TimeoutError:
        screen.note(f"{job.id} had not ended after {seconds:.0f} s and is canceled; `stoker queues` may say why.")
        return client.cancel(job)
    judge(screen, ended)
    return ended


def _watch(context: Context, job: Job, seconds: float) -> Job:
    screen, view = context.screen, View(context.screen)
    screen.say(f"\n{screen.paint(f'{job.kind}: {job.model}', BOLD)}  {screen.paint(job.id, DIM)}")
    screen.say(screen.paint(", ".join(_strings(INPUTS[job.kind])), DIM))
    ended = asyncio.run(asyncio.wait_for(show(job, view), seconds))
    view.end(ended, [*closeness(ended), *([] if screen.is_terminal else made_by(ended))])
    return ended


def closeness(job: Job) -> list[str]:
    """Return how close the demo's texts are to each other, closest first, where the job made vectors of them."""
    vectors = job.output.get("embeddings") if isinstance(job.output, dict) else None
    if not vectors or len(vectors) != len(TEXTS):
        return []
    found = [(_cosine(vectors[a], vectors[b]), TEXTS[a], TEXTS[b]) for a, b in combinations(range(len(TEXTS)), 2)]
    return [f"  {likeness:5.2f}  {one} / {other}" for likeness, one, other in sorted(found, reverse=True)]


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True)) / (math.hypot(*one) * math.hypot(*other))


def _strings(given: dict[str, Any]) -> list[str]:
    """Return what the demo's input says in words."""
    found = given.get("texts") or [given.get("prompt") or given["messages"][-1]["content"]]
    return [f"“{text}”" for text in found]
