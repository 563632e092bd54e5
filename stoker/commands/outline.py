"""A job in words: where it waits and why, what it made, everything about it on one page."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from stoker.client import Job
from stoker.commands.words import age, clock, duration, fit, long_duration, one_line, size

REASONS = {
    "capacity": "waits for a free slot",
    "no_worker": "no worker serves this queue",
    "loading": "the model is loading",
    "paused": "the queue is paused",
    "scheduled": "scheduled for later",
}
SHOWN_NUMBERS = 4
LABEL_WIDTH = 9


def place_of(job: Job) -> str:
    """Say where a waiting job stands."""
    place = job.queue or {}
    words = [f"queued in {place.get('name', '?')}"]
    if position := place.get("position"):
        words.append(f"position {position}{'+' if place.get('position_is_minimum') else ''}")
    if (eta := place.get("eta_seconds")) is not None:
        words.append(f"starts in about {long_duration(eta)}")
    reason = str(place.get("reason"))
    return f"{', '.join(words)} ({REASONS.get(reason, reason)})"


def text_of(job: Job) -> str | None:
    """Return what a job wrote and which calls it wants made, if that is what it makes."""
    output = job.output
    if not isinstance(output, dict) or not isinstance(output.get("text"), str):
        return None
    functions = [call["function"] for call in output.get("tool_calls") or ()]
    return with_calls(output["text"], [(one["name"], one["arguments"]) for one in functions])


def with_calls(text: str, calls: Iterable[tuple[str | None, str]]) -> str:
    """Return a text with a line for each call after it; as they grow, what stands there stays."""
    lines = [text] if text else []
    return "\n".join([*lines, *(f"→ {name or ''} {arguments}" for name, arguments in calls)])


def output_of(job: Job) -> str:
    """Return a job's output for a person: text as it is, vectors by their first numbers, pictures by their seeds."""
    if (text := text_of(job)) is not None:
        return text
    output = job.output
    if isinstance(output, dict) and output.get("embeddings"):
        vectors = output["embeddings"]
        first = ", ".join(f"{number:.3f}" for number in vectors[0][:SHOWN_NUMBERS])
        noun = "vector" if len(vectors) == 1 else "vectors"
        return f"{len(vectors)} {noun} of {len(vectors[0])} numbers: [{first}, …]"
    if isinstance(output, dict) and isinstance(output.get("images"), list):
        return "; ".join(_picture(image) for image in output["images"])
    return json.dumps(output, ensure_ascii=False)


def _picture(image: Mapping[str, Any]) -> str:
    what = image.get("name") or f"a picture that was blocked ({image.get('blocked')})"
    return f"{what}: {image.get('width')}x{image.get('height')}, seed {image.get('seed')}"


def made_by(job: Job) -> Iterator[str]:
    """Yield a line for each artifact, and one that says how to get them."""
    names = [one_line(one.name) for one in job.artifacts]
    width = max(map(len, names), default=0)
    for name, one in zip(names, job.artifacts, strict=True):
        yield f"{name:<{width}}  {one_line(one.content_type)}, {size(one.bytes)}"
    if names:
        yield job.urls["result"]
        yield f"stoker result {job.id} -o {names[0] if len(names) == 1 else 'FOLDER'}"


def summary_of(job: Job) -> str:
    """Say how a job ended and how long that took."""
    metrics = job.metrics or {}
    words = [f"waited {duration(metrics['queue_ms'])}"] if "queue_ms" in metrics else []
    words += [f"ran {duration(metrics['run_ms'])}"] if "run_ms" in metrics else []
    words += [f"{metrics['tokens_per_second']:.0f} tokens/s"] if metrics.get("tokens_per_second") else []
    return ", ".join([job.status, *words])


def page_of(job: Job, width: int) -> list[str]:
    """Return everything about a job that a person asks for."""
    facts: dict[str, str | None] = {
        "model": f"{job.model} ({job.kind})",
        "queue": place_of(job) if job.status == "queued" else None,
        "progress": _progress(job.progress),
        "attempt": str(job.attempt) if job.attempt else None,
        "created": f"{clock(job.created_at)} ({age(job.created_at)} ago)",
        "took": summary_of(job).partition(", ")[2] or None,
        "usage": _pairs(job.usage),
        "metadata": _pairs(job.metadata),
        "retry of": job.retry_of,
        "error": f"{job.error.message} ({job.error.code})" if job.error else None,
        "input": None if job.input is None else json.dumps(job.input, ensure_ascii=False),
        "output": None if job.output is None else output_of(job),
    }
    room = width - LABEL_WIDTH - 4
    lines = [
        f"  {name:<{LABEL_WIDTH}} {one_line(value) if name in ('output', 'error') else fit(one_line(value), room)}"
        for name, value in facts.items()
        if value
    ]
    made = list(made_by(job))
    return lines + [f"  {'artifacts' if index == 0 else '':<{LABEL_WIDTH}} {line}" for index, line in enumerate(made)]


def _progress(told: Mapping[str, Any] | None) -> str | None:
    if not told or told.get("fraction") is None:
        return None
    return f"{told['fraction']:.0%} {told.get('stage') or ''}"


def _pairs(told: Mapping[str, Any] | None) -> str:
    return ", ".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in (told or {}).items()
    )
