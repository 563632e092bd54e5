"""`python -m bench.text`: the demo model through the whole platform beside calling vLLM's AsyncLLM directly.

Both sides hold the same weights in the same precision and say the same number of tokens; they take turns, so that the
machine's moods hit both. The end of a turn does not end an answer here, or nobody would know how long it gets.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from bench.figures import at
from bench.processes import cpu_seconds
from bench.wire import Connection
from schemas.text import Message, TextInput
from tasks.prompts import Prompts
from tests.chaos.stack import ROOT, Stack, Wanted, run_stack
from workers.engines import ENVIRONMENTS

CATALOG = """
[models.chat]
kind = "text"
engine = "vllm"
source = "{folder}"
devices = ["cpu0"]
max_in_flight = 64
context_length = 1024
warm_up = {{ prompt = "Good morning", max_tokens = 8 }}
options = {{ dtype = "float32", kv_cache_gib = 0.25 }}
"""
TOPICS = ("a queue", "a worker", "a river", "the sea", "an adapter", "a small robot", "a token", "the moon")
TOKENS, WAVES, CROWDS = 128, 4, (32, 64)
FIRSTS, FIRST_TOKENS, PAUSE_SECONDS = 200, 8, 0.02
START_SECONDS = 240.0
WORKER = "worker-chat-cpu0"
WAIT = "Prefer: wait=60\r\n"


@dataclass
class Crowd:
    """What rounds with so many clients gave."""

    bare: list[float] = field(default_factory=list)
    platform: list[float] = field(default_factory=list)
    same: int = 0
    compared: int = 0
    cpu: Counter[str] = field(default_factory=Counter[str])
    """The seconds that each part of the platform took for these answers."""

    @property
    def ratio(self) -> float:
        """The median of the pairs' ratios."""
        return statistics.median(ours / theirs for ours, theirs in zip(self.platform, self.bare, strict=True))


class BareSide:
    """AsyncLLM in its process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def do(self, order: str, **how: Any) -> dict[str, Any]:
        """Have it do something; what it says."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the bare side has no pipes")
        self._process.stdin.write(json.dumps({"do": order, **how}).encode() + b"\n")
        while line := await self._process.stdout.readline():
            if line.startswith(b"{"):
                answer: dict[str, Any] = json.loads(line)
                return answer
        raise RuntimeError("the bare side has ended; its last words are above")


class PlatformSide:
    """The platform, asked by clients that cost little."""

    def __init__(self, stack: Stack) -> None:
        self._port = int(stack.url.rpartition(":")[2])
        self._headers = {"Authorization": f"Bearer {stack.key}"}
        self._pids = {name: part.pid for name, part in stack.keeper.parts.items()}
        self._pids |= {"redis": stack.servers.redis.pid, "object store": stack.servers.s3.pid}
        self._worker = psutil.Process(self._pids[WORKER])

    async def wave(self, prompts: Sequence[str], clients: int) -> tuple[float, list[str]]:
        """Answer all prompts, so many at once."""
        waiting, texts = iter(enumerate(prompts)), [""] * len(prompts)
        calls = [await Connection.open(self._port, self._headers) for _ in range(clients)]

        async def client(call: Connection) -> None:
            for index, prompt in waiting:
                texts[index] = await _run_job(call, prompt)

        began_at = time.perf_counter()
        await asyncio.gather(*map(client, calls))
        seconds = time.perf_counter() - began_at
        for call in calls:
            call.close()
        return seconds, texts

    async def first_ms(self, messages: Sequence[dict[str, str]]) -> float:
        """Ask as OpenAI's clients do; the milliseconds to the first token."""
        body = {"model": "chat", "messages": messages, "max_tokens": FIRST_TOKENS, "temperature": 0, "stream": True}
        content = json.dumps(body).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        lines = [f"{name}: {value}" for name, value in self._headers.items()]
        lines += ["Host: bench", "Content-Type: application/json", f"Content-Length: {len(content)}", "", ""]
        began_at, took = time.perf_counter(), 0.0
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\n" + "\r\n".join(lines).encode() + content)
        while (line := await reader.readline()) and b"[DONE]" not in line:
            if line.startswith(b"data: {") and not took and _says_something(json.loads(line[6:])):
                took = (time.perf_counter() - began_at) * 1000
        writer.close()
        if not took:
            raise RuntimeError("an answer had no tokens")
        return took

    def cpu(self) -> Counter[str]:
        """How many seconds of CPU each part has taken by now; of the worker, what computes is apart."""
        taken = Counter({name: cpu_seconds(pid) for name, pid in self._pids.items()})
        front = sum(self._worker.cpu_times()[:2])
        taken["its engine"] = taken[WORKER] - front
        taken[WORKER] = front
        return taken

    def mebibytes(self) -> float:
        """What the worker's front process holds, without the one that computes."""
        return float(self._worker.memory_info().rss) / 2**20


async def _run_job(call: Connection, prompt: str) -> str:
    given = {"prompt": prompt, "max_tokens": TOKENS, "temperature": 0}
    answer = await call.request("POST", "/v1/jobs", {"kind": "text", "model": "chat", "input": given}, WAIT)
    while answer.status == 202 or answer.body["status"] in ("queued", "running"):
        answer = await call.request("GET", answer.body["urls"]["get"], extra=WAIT)
    if answer.body["status"] != "succeeded":
        raise RuntimeError(f"a job ended {answer.body['status']}: {answer.body['error']}")
    return str(answer.body["output"]["text"])


def _says_something(chunk: dict[str, Any]) -> bool:
    return any(choice["delta"].get("content") for choice in chunk["choices"])


async def compare(bare: BareSide, platform: PlatformSide, rounds: int) -> dict[int, Crowd]:
    """Let both sides answer the same prompts in turns."""
    crowds = {clients: Crowd() for clients in CROWDS}
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", flush=True)
        for clients, crowd in crowds.items():
            prompts = [f"{TOPICS[n % len(TOPICS)]}, number {n} of {number}." for n in range(WAVES * clients)]
            said: dict[str, list[str]] = {}
            for side in ("bare", "platform") if number % 2 else ("platform", "bare"):
                if side == "bare":
                    answer = await bare.do("wave", prompts=prompts, clients=clients, tokens=TOKENS)
                    seconds, said[side] = answer["seconds"], answer["texts"]
                else:
                    before = platform.cpu()
                    seconds, said[side] = await platform.wave(prompts, clients)
                    crowd.cpu += platform.cpu() - before
                getattr(crowd, side).append(len(prompts) * TOKENS / seconds)
            crowd.compared += len(prompts)
            crowd.same += sum(one == other for one, other in zip(said["bare"], said["platform"], strict=True))
    return crowds


async def first_tokens(bare: BareSide, platform: PlatformSide, folder: Path) -> tuple[list[float], list[float]]:
    """Ask both sides in turns, one question after the other."""
    prompts, theirs, ours = Prompts(folder), list[float](), list[float]()
    for number in range(FIRSTS):
        messages = [{"role": "user", "content": f"What is {TOPICS[number % len(TOPICS)]}, {number}?"}]
        prompt = prompts.render(TextInput(messages=[Message.model_validate(one) for one in messages]))
        theirs.append((await bare.do("first", prompt=prompt, tokens=FIRST_TOKENS))["ms"])
        await asyncio.sleep(PAUSE_SECONDS)
        ours.append(await platform.first_ms(messages))
        await asyncio.sleep(PAUSE_SECONDS)
    return theirs, ours


@asynccontextmanager
async def bare_side(folder: Path) -> AsyncIterator[BareSide]:
    """Run AsyncLLM in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.bare_text", str(folder)),
        cwd=ROOT,
        env=os.environ | ENVIRONMENTS["vllm"],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**24,
    )
    try:
        yield BareSide(process)
    finally:
        if process.stdin is not None:
            process.stdin.close()
        await process.wait()


def endless_copy(source: Path, folder: Path) -> Path:
    """Copy the model with an end that it never says."""
    shutil.copytree(source, folder)
    for name in ("config.json", "generation_config.json"):
        settings = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(settings | {"eos_token_id": settings["pad_token_id"]}))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"eos_token": settings["pad_token"]}))
    return folder


async def measure(folder: Path, source: Path, rounds: int) -> str:
    """Start both sides and compare them."""
    model = endless_copy(source, folder / "model")
    (folder / "stack").mkdir()
    wanted = Wanted(folder / "stack", "sqlite", CATALOG.format(folder=model), {}, ready_seconds=START_SECONDS)
    async with run_stack(wanted) as stack, bare_side(model) as bare:
        platform = PlatformSide(stack)
        await compare(bare, platform, 1)
        theirs, ours = await first_tokens(bare, platform, model)
        crowds = await compare(bare, platform, rounds)
        return render(crowds, theirs, ours, (await bare.do("memory"))["mebibytes"], platform.mebibytes())


def render(
    crowds: dict[int, Crowd], theirs: Sequence[float], ours: Sequence[float], bare: float, platform: float
) -> str:
    """Lay the figures out beside what they must be."""
    lines: list[tuple[str, float, str]] = []
    for clients, crowd in crowds.items():
        lines += [
            (f"{clients} clients, tokens/s: AsyncLLM", statistics.median(crowd.bare), ""),
            (f"{clients} clients, tokens/s: whole path", statistics.median(crowd.platform), ""),
            ("  whole path / AsyncLLM, median of pairs", crowd.ratio, ">= 0.90"),
            ("  share of answers that are the same", crowd.same / crowd.compared, "1"),
        ]
        lines += [
            (f"  CPU-ms a job: {name}", 1000 * cpu / crowd.compared, "") for name, cpu in crowd.cpu.most_common()
        ]
    for share, most in ((0.5, 12), (0.99, 40)):
        name = f"p{share * 100:.0f}"
        lines += [
            (f"first token at idle, ms {name}: AsyncLLM", at(theirs, share), ""),
            (f"first token at idle, ms {name}: OpenAI door", at(ours, share), f"<= {at(theirs, share) + most:.1f}"),
        ]
    lines += [
        ("front process MiB: AsyncLLM", bare, ""),
        ("front process MiB: worker", platform, f"<= {bare + 100:.0f}"),
    ]
    return "\n".join(f"{label:<46}{value:>10.2f}   {wanted}".rstrip() for label, value, wanted in lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.text", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "chat" / "weights")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stoker-bench-") as folder:
        print(asyncio.run(measure(Path(folder), options.model, options.rounds)))


if __name__ == "__main__":
    main()
