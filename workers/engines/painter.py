"""A diffusers pipeline on its device: prompts and seeds to pictures, a batch at a time."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import DiffusionPipeline

from schemas.base import JsonObject
from schemas.errors import EngineDeadError, StartError
from tasks.adapters import AdapterFile
from workers.engines.devices import CPU, DTYPES, find_device
from workers.engines.image_batching import Canvas, Group
from workers.engines.image_options import ImageOptions
from workers.engines.lora import Adapter, read_adapter
from workers.engines.memory import bound_malloc
from workers.engines.mixing import Mixture
from workers.engines.painting import Drawn, MemoryShortError, Watch
from workers.engines.pictures import Pixels
from workers.engines.previews import Previewer
from workers.engines.schedulers import Schedulers, keep_rows

SHORT_WORDS = ("can't allocate memory", "not enough memory", "out of memory", "cannot allocate memory")
"""How allocators that have no exception of their own say that memory is short."""
CARRIED = ("latents", "prompt_embeds", "add_text_embeds", "add_time_ids")
"""What UNets carry from step to step for each image; a pipeline that shows all of it can leave images out."""


@dataclass(frozen=True, slots=True)
class Kit:
    """What every batch is drawn with."""

    pipeline: Any
    schedulers: Schedulers
    previewer: Previewer
    takes: frozenset[str]
    """What the pipeline may be told."""
    carried: list[str]
    """What it shows after each step."""
    can_leave_out: bool


class DiffusersPainter:
    """Draws; all of it belongs into one thread, but adapters may be read in another."""

    def __init__(self, source: str, *, revision: str, device: str, options: ImageOptions) -> None:
        torch.set_num_threads(options.threads)
        bound_malloc()
        _hush()
        self._device = _find_device(device)
        self._drill_batch = options.drill_batch
        pipeline = _load(source, revision, self._device, options)
        _set_up(pipeline, self._device, options)
        self._kit = _pack_kit(pipeline)
        self._description = _describe(pipeline, self._device)

    @property
    def schedulers(self) -> Sequence[str]:
        """Return the names of those that fit."""
        return self._kit.schedulers.names

    def read_adapter(self, file: AdapterFile) -> Adapter:
        """Return an adapter's changes, on the device."""
        return read_adapter(self._kit.pipeline, file)

    def draw(self, group: Group, canvases: Sequence[Canvas], watch: Watch) -> Drawn:
        """Draw a batch; `watch` sees each step and says who is still wanted."""
        if self._drill_batch is not None and len(canvases) >= self._drill_batch:
            raise MemoryShortError
        with _memory_watched(), torch.inference_mode():
            before = self._begin_measuring()
            pictures = Batch(self._kit, group, canvases, watch).draw()
            return Drawn(pictures, self._measure(before, len(canvases)))

    def free_bytes(self) -> int | None:
        """Return how much memory a batch may take, where that can be told."""
        if self._device.type != "cuda":
            return None
        free, _ = torch.cuda.mem_get_info(self._device)
        spare = torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(self._device)
        return int(free + spare)

    def give_back(self) -> None:
        """Give memory that is not in use back to the device."""
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def describe(self) -> JsonObject:
        """Say where and how the model runs."""
        return self._description

    def _begin_measuring(self) -> int:
        if self._device.type != "cuda":
            return 0
        torch.cuda.reset_peak_memory_stats(self._device)
        return int(torch.cuda.memory_allocated(self._device))

    def _measure(self, before: int, count: int) -> float | None:
        if self._device.type != "cuda":
            return None
        return float(torch.cuda.max_memory_allocated(self._device) - before) / count


def _describe(pipeline: Any, device: torch.device) -> JsonObject:
    dtype = str(_denoiser(pipeline).dtype).removeprefix("torch.")  # looks through all layers
    return {"device": str(device), "dtype": dtype, "pipeline": type(pipeline).__name__}


def _pack_kit(pipeline: Any) -> Kit:
    shown = pipeline._callback_tensor_inputs  # noqa: SLF001 - it is documented, and there is no other way
    unet = getattr(pipeline, "unet", None)
    return Kit(
        pipeline,
        Schedulers(pipeline.scheduler),
        Previewer(pipeline),
        frozenset(inspect.signature(pipeline.__call__).parameters),
        [name for name in CARRIED if name in shown],
        can_leave_out=unet is not None and unet.config.time_cond_proj_dim is None,
    )


class Batch:
    """One run of the pipeline. Rows are images in the order of the batch; those nobody wants any more are left out."""

    def __init__(self, kit: Kit, group: Group, canvases: Sequence[Canvas], watch: Watch) -> None:
        self._kit = kit
        self._group = group
        self._canvases = canvases
        self._watch = watch
        self._rows = list(range(len(canvases)))  # those that are still drawn
        self._mixture = Mixture(kit.pipeline, [canvas.adapters for canvas in canvases])
        # On the CPU whatever the device: there a seed is the same noise everywhere.
        self._noises = [torch.Generator(CPU).manual_seed(canvas.seed) for canvas in canvases]

    def draw(self) -> dict[int, Pixels]:
        """Return the pictures by row."""
        group, pipeline = self._group, self._kit.pipeline
        pipeline.scheduler = self._kit.schedulers.get(group.scheduler)
        asked: dict[str, Any] = {"prompt": [canvas.prompt for canvas in self._canvases]}
        if group.has_negative and "negative_prompt" in self._kit.takes:
            asked["negative_prompt"] = [canvas.negative_prompt for canvas in self._canvases]
        with self._mixture.applied():
            drawn = pipeline(
                **asked,
                width=group.width,
                height=group.height,
                num_inference_steps=group.steps,
                guidance_scale=group.guidance,
                generator=self._noises,
                output_type="pt",
                callback_on_step_end=self._see_step,
                callback_on_step_end_tensor_inputs=self._kit.carried,
            ).images
        pixels = (drawn.float() * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        return dict(zip(self._rows, pixels, strict=True))

    def _see_step(self, _pipeline: Any, step: int, _time: Any, carried: dict[str, Any]) -> dict[str, Any]:
        wanted = set(self._watch(step + 1, partial(self._look, self._kit.schedulers.estimate)))
        if self._kit.can_leave_out and not wanted.issuperset(self._rows):
            return self._leave_out(wanted, carried)
        return carried

    def _look(self, latents: torch.Tensor, row: int) -> Pixels:
        return self._kit.previewer.picture(latents[self._rows.index(row)], self._group.width, self._group.height)

    def _leave_out(self, wanted: set[int], carried: dict[str, Any]) -> dict[str, Any]:
        count = len(self._rows)
        kept = [place for place, row in enumerate(self._rows) if row in wanted]
        self._rows = [self._rows[place] for place in kept]
        self._noises[:] = [self._noises[place] for place in kept]  # the pipeline holds this very list
        self._mixture.keep(kept)
        keep_rows(self._kit.pipeline.scheduler, kept, count)
        return {name: _keep(value, kept, count) for name, value in carried.items()}


def _keep(value: torch.Tensor, kept: Sequence[int], count: int) -> torch.Tensor:
    """Return the rows of a tensor, which with guidance has all of them twice."""
    return value[[place + part for part in range(0, len(value), count) for place in kept]]


@contextmanager
def _memory_watched() -> Iterator[None]:
    """Tell a lack of memory from other failures, and a device that is lost from both."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise MemoryShortError from error
    except torch.AcceleratorError as error:
        raise EngineDeadError from error  # whatever it was, nothing works on that device any more
    except RuntimeError as error:
        if any(words in str(error).lower() for words in SHORT_WORDS):
            raise MemoryShortError from error
        raise


def _hush() -> None:
    """Leave the log to us."""
    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    logging.getLogger("diffusers").setLevel(logging.ERROR)


def _find_device(name: str) -> torch.device:
    device = find_device(name)
    if device is None:
        raise StartError(f"This machine has no {name} for an image model; correct 'devices' in the catalog.")
    return device


def _load(source: str, revision: str, device: torch.device, options: ImageOptions) -> Any:
    dtype = _choose_dtype(options.dtype, device)
    try:
        pipeline = DiffusionPipeline.from_pretrained(
            source,
            revision=revision,
            variant=options.variant,
            dtype=dtype,
            local_files_only=Path(source).is_dir(),
        )
        return _draw_from_text(pipeline)
    except (OSError, ValueError, ImportError) as error:
        first_line = str(error).strip().partition("\n")[0]
        raise StartError(
            f"The image model '{source}' cannot be loaded: {first_line} It has to be a text-to-image pipeline in "
            "diffusers' format (with a model_index.json). If it is on a hub, let this machine reach it or download it "
            "and give its folder as 'source'; if it is a folder, check what is in it."
        ) from error


def _draw_from_text(pipeline: Any) -> Any:
    """Return a pipeline that needs no picture to begin with, made of the same parts where the files name another."""
    if "image" not in inspect.signature(pipeline.__call__).parameters:
        return pipeline
    from diffusers import AutoPipelineForText2Image  # noqa: PLC0415 - imports every family there is

    return AutoPipelineForText2Image.from_pipe(pipeline)


def _choose_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """Return the type to compute in: half precision where the hardware is made for it, else single."""
    if wanted != "auto":
        return DTYPES[wanted]
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.bfloat16
    return torch.float32 if device.type == CPU.type else torch.float16


def _set_up(pipeline: Any, device: torch.device, options: ImageOptions) -> None:
    """Bring the pipeline where it computes, the way the catalog wants it."""
    pipeline.set_progress_bar_config(disable=True)
    if getattr(pipeline, "safety_checker", None) is not None:
        pipeline.safety_checker = None  # the catalog names the checker, and a job says whether it is asked
    if options.vae_slicing:
        pipeline.vae.enable_slicing()
    if options.vae_tiling:
        pipeline.vae.enable_tiling()
    denoiser = _denoiser(pipeline)
    if options.attention_backend is not None:
        denoiser.set_attention_backend(options.attention_backend)
    if options.offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    elif options.offload == "sequential":
        pipeline.enable_sequential_cpu_offload(device=device)
    else:
        pipeline.to(device)
    if options.compile:
        denoiser.compile()


def _denoiser(pipeline: Any) -> Any:
    return pipeline.unet if hasattr(pipeline, "unet") else pipeline.transformer
