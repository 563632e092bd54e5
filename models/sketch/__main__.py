"""Makes the demo image model again: python -m models.sketch. It takes a quarter of an hour on one core."""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, StableDiffusionPipeline
from peft import get_peft_model_state_dict

from models.sketch.autoencoder import build_autoencoder, train_autoencoder
from models.sketch.diffusion import build_scheduler, build_text_encoder, build_unet
from models.sketch.looks import ADAPTERS
from models.sketch.sheet import make_sheet
from models.sketch.tokens import build_tokenizer
from models.sketch.training import Artist, Course, add_adapter, train

HERE = Path(__file__).parent
SHEET = HERE.parents[1] / "docs" / "demo-image-model.png"
PARTS = ("autoencoder", "artist", *ADAPTERS, "sheet")
EMPHASIS = {"night": 1.0, "stripes": 1.4, "gold": 1.4}
"""So short a training is shy: what it learned is said a little louder, so that strength 0.5 shows, too."""
SEED = 20261121
SHOWN_EVERY = 100
KEPT_EVERY = 400
"""Steps after which the artist is written, finished or not, so that one can look how it comes along."""


def main() -> None:
    """Train each part that was asked for, in an order in which one can build on the other."""
    parser = argparse.ArgumentParser(prog="python -m models.sketch", description="Make the demo image model again.")
    parser.add_argument("--only", action="append", choices=PARTS, help="make this part alone; may be said again")
    parser.add_argument("--into", type=Path, default=HERE, help="the folder that gets weights/ and adapters/")
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    for part in [part for part in PARTS if part in (wanted.only or PARTS)]:
        torch.manual_seed(SEED)
        print(part, flush=True)
        if part == "autoencoder":
            make_autoencoder(wanted.into / "weights" / "vae")
        elif part == "artist":
            make_artist(wanted.into / "weights")
        elif part in ADAPTERS:
            make_adapter(part, wanted.into)
        else:
            make_sheet(_load(wanted.into, *ADAPTERS), SHEET)
    _forget_the_machine(wanted.into)


def make_autoencoder(folder: Path) -> None:
    """Train what turns latents into pixels."""
    autoencoder = build_autoencoder()
    for _ in _told(train_autoencoder(autoencoder, steps=700)):
        pass
    autoencoder.save_pretrained(folder)


def make_artist(folder: Path) -> None:
    """Train the UNet and the text encoder, and write the whole pipeline."""
    tokenizer = build_tokenizer()
    artist = Artist(tokenizer, build_text_encoder(tokenizer), build_unet(), build_scheduler())
    course = Course(steps=2400, rate=2.5e-3)
    for step in _told(train(artist, course)):
        if step % KEPT_EVERY == 0 or step == course.steps:
            _save(artist, folder)


def make_adapter(name: str, folder: Path) -> None:
    """Train one adapter on the pipeline that was written before."""
    pipeline = _load(folder)
    artist = Artist(pipeline.tokenizer, pipeline.text_encoder, pipeline.unet, pipeline.scheduler)
    add_adapter(artist, name)
    for _ in _told(train(artist, Course(steps=400, rate=4e-3, rows=8, pictures=1024), ADAPTERS[name])):
        pass
    learned = get_peft_model_state_dict(artist.unet, adapter_name=name)
    kept = {key: (EMPHASIS[name] * value if "lora_B" in key else value).half() for key, value in learned.items()}
    StableDiffusionPipeline.save_lora_weights(folder / "adapters" / name, unet_lora_layers=kept)


def _load(folder: Path, *adapters: str) -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline.from_pretrained(folder / "weights", local_files_only=True)
    for name in adapters:
        pipeline.load_lora_weights(folder / "adapters" / name, adapter_name=name, local_files_only=True)
    return pipeline


def _save(artist: Artist, folder: Path) -> None:
    """Write the pipeline with a rounded copy of the UNet: half precision halves the file and shows in no picture."""
    artist.tokenizer.backend_tokenizer.no_padding()  # who counts a prompt's tokens wants its own, not 77
    artist.tokenizer.backend_tokenizer.no_truncation()
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderTiny.from_pretrained(folder / "vae"),
        text_encoder=artist.text_encoder,
        tokenizer=artist.tokenizer,
        unet=copy.deepcopy(artist.unet).half(),
        scheduler=artist.scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)


def _forget_the_machine(folder: Path) -> None:
    """Take out of the settings where the parts were on the machine that trained them."""
    for path in folder.glob("weights/**/*.json"):
        settings = json.loads(path.read_text(encoding="utf-8"))
        if settings.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def _told(losses: Iterator[float]) -> Iterator[int]:
    """Count the steps, and say now and then how it goes."""
    started, recent = time.monotonic(), 0.0
    for step, loss in enumerate(losses, start=1):
        recent = loss if step == 1 else 0.98 * recent + 0.02 * loss
        if step % SHOWN_EVERY == 0:
            print(f"  step {step}, loss {recent:.4f}, {time.monotonic() - started:.0f} s", flush=True)
        yield step


if __name__ == "__main__":
    main()
