"""vLLM's AsyncLLM alone in a process, asked over pipes: what the platform around it is compared with."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import psutil
from vllm import SamplingParams
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM

CONTEXT, SLOTS, CACHE_BYTES = 1024, 64, 2**28
"""The same for both sides."""


class Bare:
    """One AsyncLLM, as its own users would hold it."""

    def __init__(self, folder: str) -> None:
        self._llm = AsyncLLM.from_engine_args(
            AsyncEngineArgs(
                model=folder,
                dtype="float32",
                max_model_len=CONTEXT,
                max_num_seqs=SLOTS,
                enforce_eager=True,
                kv_cache_memory_bytes=CACHE_BYTES,
                disable_log_stats=True,
            )
        )
        self._asked = 0

    async def wave(self, prompts: Sequence[str], clients: int, tokens: int) -> dict[str, Any]:
        """Answer all prompts, so many at once."""
        waiting, texts = iter(enumerate(prompts)), [""] * len(prompts)

        async def client() -> None:
            for index, prompt in waiting:
                texts[index], _ = await self._ask(prompt, tokens)

        began_at = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(clients)))
        return {"seconds": time.perf_counter() - began_at, "texts": texts}

    async def first(self, prompt: str, tokens: int) -> dict[str, Any]:
        """Answer one prompt; say how long the first token took."""
        _, seconds = await self._ask(prompt, tokens)
        return {"ms": seconds * 1000}

    async def memory(self) -> dict[str, Any]:
        """Say how much this process holds, without the one that computes."""
        return {"mebibytes": psutil.Process().memory_info().rss / 2**20}

    async def _ask(self, prompt: str, tokens: int) -> tuple[str, float]:
        self._asked += 1
        wishes = SamplingParams(temperature=0, max_tokens=tokens, output_kind=RequestOutputKind.DELTA)
        pieces: list[str] = []
        began_at, first_at = time.perf_counter(), 0.0
        async for output in self._llm.generate(prompt, wishes, f"bare-{self._asked}"):
            first_at = first_at or time.perf_counter()
            pieces.append(output.outputs[0].text)
        return "".join(pieces), first_at - began_at


async def serve(folder: str) -> None:
    """Answer one order per line, until there are no more."""
    bare = Bare(folder)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        order = json.loads(line)
        print(json.dumps(await getattr(bare, order.pop("do"))(**order)), flush=True)
    bare._llm.shutdown(timeout=0)  # noqa: SLF001 - its own


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
