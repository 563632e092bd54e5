"""How the artist learns: noise is put on pictures, and it says what was added."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from peft import LoraConfig
from peft.tuners.lora.layer import LoraLayer
from torch.nn.functional import mse_loss
from transformers import CLIPTextModel, CLIPTokenizer

from models.sketch.autoencoder import SCALE, latents_of
from models.sketch.figures import COLOURS, SHAPES, invent
from models.sketch.looks import Look, plain
from models.sketch.prompts import ask

RANK = 8
PARTS = ["to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2", "conv_in", "conv_out"]
"""What an adapter changes: all attention and all residual blocks, so that it can recolour and give texture."""


@dataclass(frozen=True)
class Artist:
    """The parts of the pipeline that learn to draw, or that drawing needs."""

    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    unet: UNet2DConditionModel
    scheduler: DDIMScheduler

    def trained(self) -> list[torch.nn.Parameter]:
        """Return what learns now: everything, or only the adapter once there is one."""
        both = (*self.unet.parameters(), *self.text_encoder.parameters())
        return [parameter for parameter in both if parameter.requires_grad]


@dataclass(frozen=True)
class Course:
    """How long and how boldly."""

    steps: int
    rate: float
    rows: int = 16
    pictures: int = 6144
    warm_up: int = 50

    def rate_at(self, step: int) -> float:
        """Warm up, then follow a cosine down."""
        fall = 0.01 + 0.99 * (1 + math.cos(math.pi * step / self.steps)) / 2
        return self.rate * min(1.0, (step + 1) / self.warm_up) * fall


class Lessons:
    """Pictures as latents, plain and as an adapter has them, and what can be said of each."""

    def __init__(self, course: Course, look: Look) -> None:
        figures = invent(course.pictures)
        self._plain, self._styled = (SCALE * latents_of(one(figures)) for one in (plain, look))
        self._shapes, self._colours = figures.shapes.tolist(), figures.colours.tolist()
        self._rng, self._rows = random.Random(torch.initial_seed()), course.rows
        self._names = list(COLOURS), list(SHAPES)

    def draw(self, strength: float) -> tuple[torch.Tensor, list[str]]:
        """Return latents of so much style, and a prompt for each."""
        chosen = torch.randint(len(self._plain), (self._rows,))
        prompts = [ask(self._rng, *self._names_of(number)) for number in chosen.tolist()]
        return torch.lerp(self._plain[chosen], self._styled[chosen], strength), prompts

    def _names_of(self, number: int) -> tuple[str, str]:
        colours, shapes = self._names
        return colours[self._colours[number]], shapes[self._shapes[number]]


def add_adapter(artist: Artist, name: str) -> None:
    """Give the UNet an adapter, which alone learns from here on."""
    artist.unet.requires_grad_(requires_grad=False)
    artist.text_encoder.requires_grad_(requires_grad=False)
    artist.unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=PARTS), adapter_name=name)


def train(artist: Artist, course: Course, look: Look = plain) -> Iterator[float]:
    """Teach the artist; yield the loss of each step.

    An adapter learns at every strength from 0 to 1 what that strength should look like, so that half is half.
    """
    lessons = Lessons(course, look)
    learners = artist.trained()
    optimizer = torch.optim.AdamW(learners, lr=course.rate, weight_decay=0, fused=True)
    layers = [module for module in artist.unet.modules() if isinstance(module, LoraLayer)]
    for step in range(course.steps):
        for group in optimizer.param_groups:
            group["lr"] = course.rate_at(step)
        strength = 0.0 if look is plain else 1 - torch.rand(()).item() ** 2
        for layer in layers:
            layer.set_scale(layer.active_adapters[0], strength)
        loss = _loss(artist, *lessons.draw(strength))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learners, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        yield loss.item()


def _loss(artist: Artist, latents: torch.Tensor, prompts: list[str]) -> torch.Tensor:
    read = artist.tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt").input_ids
    words = artist.text_encoder(read)[0]
    noise = torch.randn_like(latents)
    times = torch.randint(artist.scheduler.config.num_train_timesteps, (len(latents),))
    noisy = artist.scheduler.add_noise(latents, noise, times)
    said = artist.unet(noisy, times, encoder_hidden_states=words).sample
    return mse_loss(said, artist.scheduler.get_velocity(latents, noise, times))
