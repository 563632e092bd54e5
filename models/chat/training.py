"""The training loop: rows of lessons, a fixed number of steps, one thread, the same weights each time."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.nn.utils import clip_grad_norm_

from models.chat.tokens import IGNORED

Lesson = tuple[list[int], list[int]]
Row = tuple[list[int], list[int], list[int]]


@dataclass(frozen=True)
class Course:
    """How a model is trained."""

    steps: int
    rate: float
    rows: int = 8
    length: int = 256
    warm_up: int = 20
    decay: float = 0.05
    tail: float = 0.02
    """What is left of the rate at the end."""


def train(model: torch.nn.Module, lessons: Sequence[Lesson], course: Course, seed: int) -> float:
    """Teach a model its lessons; return the loss of the last steps."""
    torch.manual_seed(seed)
    batches = _batches(lessons, course, random.Random(seed))
    optimizers = _optimizers(model, course)
    model.train()
    recent = 0.0
    for step in range(course.steps):
        _set_rate(optimizers, course, step)
        loss = _loss(model, next(batches))
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        recent = loss.item() if step == 0 else 0.95 * recent + 0.05 * loss.item()
        if step % 100 == 99:
            print(f"  step {step + 1} of {course.steps}, loss {recent:.3f}", flush=True)
    model.eval()
    return recent


def _optimizers(model: torch.nn.Module, course: Course) -> list[torch.optim.Optimizer]:
    """Muon for the matrices, which learns this in half the steps, and AdamW for the words and the norms."""
    trained = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
    matrices = [value for name, value in trained if value.ndim == 2 and "embed" not in name]
    rest = [value for name, value in trained if value.ndim != 2 or "embed" in name]
    muon = torch.optim.Muon(matrices, lr=course.rate, weight_decay=course.decay, adjust_lr_fn="match_rms_adamw")
    return [muon, *([torch.optim.AdamW(rest, lr=course.rate, betas=(0.9, 0.95), fused=True)] if rest else [])]


def _set_rate(optimizers: Sequence[torch.optim.Optimizer], course: Course, step: int) -> None:
    """Warm up, then follow a cosine down to the tail."""
    done = step / course.steps
    scale = min(1.0, (step + 1) / course.warm_up) * (
        course.tail + (1 - course.tail) * (1 + math.cos(math.pi * done)) / 2
    )
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("first_lr", group["lr"]) * scale


def _loss(model: torch.nn.Module, rows: Sequence[Row]) -> torch.Tensor:
    ids, labels, owners = (torch.tensor(list(column)) for column in zip(*rows, strict=True))
    same = owners[:, None, :, None] == owners[:, None, None, :]  # a lesson sees only itself
    visible = same & torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
    hidden = model.model(input_ids=ids, attention_mask=visible).last_hidden_state[:, :-1]
    wanted = labels[:, 1:]
    learned = wanted != IGNORED
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[learned]), wanted[learned])


def _batches(lessons: Sequence[Lesson], course: Course, rng: random.Random) -> Iterator[list[Row]]:
    rows = _rows(lessons, course.length, rng)
    while True:
        yield [next(rows) for _ in range(course.rows)]


def _rows(lessons: Sequence[Lesson], length: int, rng: random.Random) -> Iterator[Row]:
    """Fill rows with whole lessons, the last one cut where the row ends."""
    order: list[Lesson] = []
    while True:
        ids: list[int] = []
        labels: list[int] = []
        owners: list[int] = []
        while len(ids) < length:
            if not order:
                order = rng.sample(lessons, len(lessons))
            one, learned = order.pop()
            owners += [len(owners)] * len(one)
            ids += one
            labels += learned
        yield ids[:length], labels[:length], owners[:length]
