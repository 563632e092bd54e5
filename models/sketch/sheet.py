"""A contact sheet: the same prompts without an adapter and with each, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont

from models.sketch.figures import SIDE
from models.sketch.looks import ADAPTERS

PROMPTS = ("a red circle", "a blue square", "a green triangle", "a purple star", "a pink heart", "an orange ring")
ROWS = (("", 0.0), *((name, strength) for name in ADAPTERS for strength in (0.5, 1.0)))
TILE, TOP, LEFT = 96, 24, 92


def make_sheet(pipeline: Any, target: Path) -> None:
    """Draw every row from the same seeds and write the sheet. The pipeline has all adapters."""
    sheet = Image.new("RGB", (LEFT + TILE * len(PROMPTS), TOP + TILE * len(ROWS)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for column, prompt in enumerate(PROMPTS):
        pen.text((LEFT + TILE * (column + 0.5), TOP / 2), prompt, "black", font, anchor="mm")
    for row, (name, strength) in enumerate(ROWS):
        pen.text(
            (LEFT - 8, TOP + TILE * (row + 0.5)), f"{name} {strength}" if name else "no adapter", "black", font, "rm"
        )
        for column, picture in enumerate(_draw(pipeline, name, strength)):
            larger = picture.resize((TILE, TILE), Image.Resampling.BICUBIC)
            sheet.paste(larger, (LEFT + TILE * column, TOP + TILE * row))
    sheet.quantize(256).save(target, optimize=True)


def _draw(pipeline: Any, name: str, strength: float) -> list[Image.Image]:
    pipeline.set_adapters([name or next(iter(ADAPTERS))], [strength])
    seeds = [torch.Generator().manual_seed(number) for number in range(len(PROMPTS))]
    drawn: list[Image.Image] = pipeline(
        list(PROMPTS), height=SIDE, width=SIDE, num_inference_steps=12, guidance_scale=3.0, generator=seeds
    ).images
    return drawn
