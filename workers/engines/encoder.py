"""A sentence-transformers model on its device: text to tokens, tokens to vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize
from tokenizers import Tokenizer
from transformers.utils.logging import disable_progress_bar

from schemas.base import JsonObject
from schemas.errors import EngineDeadError, StartError
from tasks.logs import get_logger
from workers.engines.devices import CPU, DTYPES, find_device
from workers.engines.memory import bound_malloc

LONGEST_TOKEN_CHARACTERS = 64
"""A text that is cut is cut to so many characters for each token first: nobody waits for a tokenizer that reads on."""
CPU_STEP_TOKENS, GPU_STEP_TOKENS = 1024, 4096
"""Wider steps cost a CPU its caches; a GPU is idle in narrower ones."""
HALF_ON_CPU = ("amx_bf16", "avx512_bf16")
HALF_WIDTHS = 8

log = get_logger(__name__)


class SentenceEncoder:
    """Reads texts and computes vectors; each of the two belongs into one thread."""

    def __init__(
        self, source: str, *, revision: str, device: str, dtype: str, threads: int, context_length: int
    ) -> None:
        torch.set_num_threads(threads)
        bound_malloc()
        self.fallback = ""
        """Why the model is not where the catalog wants it."""
        self._dtype = dtype
        disable_progress_bar()
        self._model = _load(source, revision)
        self._model.eval()
        self._place(self._choose(device))
        self.step_tokens = CPU_STEP_TOKENS if self.is_on_cpu else GPU_STEP_TOKENS
        while len(self._model) > 1 and isinstance(self._model[-1], Normalize):
            del self._model[len(self._model) - 1]  # whether to normalize is the caller's choice
        self.limit = min(int(self._model.max_seq_length or context_length), context_length)
        self._whole, self._cut = _tokenizers(self._model, self.limit)
        self._pad = int(self._model.tokenizer.pad_token_id or 0)
        self._prompt = self._model.prompts.get(self._model.default_prompt_name or "", "")
        self.dimensions = int(self._model.get_embedding_dimension() or self.encode([self.read("a")]).shape[1])

    @property
    def is_on_cpu(self) -> bool:
        """Say where the model is."""
        return bool(self._device.type == CPU.type)

    def read(self, text: str, *, cut: bool = False) -> list[int]:
        """Return a text's tokens: all of them, or as many as the model can read."""
        if cut:
            text = text[: self.limit * LONGEST_TOKEN_CHARACTERS]
        tokens: list[int] = (self._cut if cut else self._whole).encode(self._prompt + text).ids
        return tokens

    def encode(self, batch: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Return one vector for each list of tokens, as the model gives them: not normalized."""
        try:
            return self._encode(batch)
        except torch.OutOfMemoryError:
            if len(batch) > 1 or self.is_on_cpu:
                raise  # the engine tries the halves
            self._fall_back(f"{self._device} ran out of memory")
            return self._encode(batch)
        except torch.AcceleratorError as error:
            raise EngineDeadError from error  # whatever it was, nothing works on that device any more

    def describe(self) -> JsonObject:
        """Return where and how the model runs."""
        said = {"device": str(self._device), "dtype": str(self._model.dtype).removeprefix("torch.")}
        return said | ({"fallback": self.fallback} if self.fallback else {})

    def _encode(self, batch: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        width = self._width(batch)
        ids = np.full((len(batch), width), self._pad, dtype=np.int64)
        mask = np.zeros((len(batch), width), dtype=np.int64)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        with torch.inference_mode():
            features: dict[str, Any] = {
                "input_ids": torch.from_numpy(ids).to(self._device),
                "attention_mask": torch.from_numpy(mask).to(self._device),
            }
            vectors: NDArray[np.float32] = self._model(features)["sentence_embedding"].float().cpu().numpy()
        return vectors

    def _width(self, batch: Sequence[Sequence[int]]) -> int:
        """Return how wide a batch is computed: in half precision every width has kernels of its own that stay."""
        width = max(map(len, batch))
        if self._model.dtype == torch.float32:
            return width
        return max(width, min(self.limit, -(-width // HALF_WIDTHS) * HALF_WIDTHS))

    def _choose(self, name: str) -> torch.device:
        device = find_device(name)
        if device is None:
            self._note_fallback(f"this machine has no {name}")
        return device or CPU

    def _place(self, device: torch.device) -> None:
        self._device = device
        try:
            self._model.to(device=device, dtype=_choose_dtype(self._dtype, device))
        except torch.OutOfMemoryError:
            self._fall_back(f"{device} has too little memory for the model")

    def _fall_back(self, why: str) -> None:
        self._note_fallback(why)
        self._place(CPU)
        torch.cuda.empty_cache()

    def _note_fallback(self, why: str) -> None:
        self.fallback = why
        log.warning("The model runs on the CPU, which is slower; free the device and restart the worker.", why=why)


def _load(source: str, revision: str) -> SentenceTransformer:
    try:
        return SentenceTransformer(source, device=CPU.type, revision=revision)
    except (OSError, ValueError, ImportError) as error:
        first_line = str(error).strip().partition("\n")[0]
        raise StartError(
            f"The embedding model '{source}' cannot be loaded: {first_line} If it is on a hub, let this machine reach "
            "it or download it and give its folder as 'source'; if it is a folder, check what is in it."
        ) from error


def _choose_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """Return the type to compute in: half where the hardware is made for it, else single."""
    if wanted != "auto":
        return DTYPES[wanted]
    if device.type != CPU.type:
        return torch.float16
    has = torch.cpu.get_capabilities()
    return torch.bfloat16 if any(has.get(name) for name in HALF_ON_CPU) else torch.float32


def _tokenizers(model: SentenceTransformer, limit: int) -> tuple[Tokenizer, Tokenizer]:
    """Return the model's tokenizer twice: one that reads to the end, one that stops at the limit."""
    fast = getattr(model.tokenizer, "backend_tokenizer", None)
    if not isinstance(fast, Tokenizer):
        raise StartError(
            f"The embedding model's tokenizer ({type(model.tokenizer).__name__}) has no fast form; "
            "choose a model with a tokenizer.json."
        )
    whole, cut = (Tokenizer.from_str(fast.to_str()) for _ in range(2))
    for tokenizer in (whole, cut):
        tokenizer.no_padding()
    whole.no_truncation()
    cut.enable_truncation(limit)
    return whole, cut
