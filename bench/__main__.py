"""`python -m bench`: both peers side by side in one run, rounds interleaved, a table and a JSON file.

The ratios are what counts: both sides have the same machine in the same minutes. A ratio proves something only against
a peer that is written well, so it is void when the naive peer takes more than 3.0 CPU-ms for a job; on the reference
machine it took 2.3 to 2.45. A slow machine makes both sides slower and says nothing about how they are written: before
each round a fixed piece of Python is timed, and the peer is judged by what it would have taken at the reference
machine's speed (`bench/speed.py`). What is void then is a peer that is badly written, or a machine too crowded to say.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import tempfile
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

from bench.peers import run_naive, run_stoker
from bench.processes import resident_mebibytes
from bench.puts import put_cpu_ms
from bench.rounds import Bench, summarize
from bench.speed import measure_slowness
from bench.table import Comparison, Side, render

RESULTS = Path(__file__).parent / "results"
IDLE_SECONDS = 10.0


async def compare(folder: Path, rounds: int) -> Comparison:
    """Run both, a round of one after a round of the other."""
    async with AsyncExitStack() as opened:
        peers = [
            await opened.enter_async_context(run(folder / name))
            for name, run in (("naive", run_naive), ("stoker", run_stoker))
        ]
        benches = [Bench(peer) for peer in peers]
        for bench in benches:
            await bench.warm_up()
        slowness = []
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", flush=True)
            for bench in benches if number % 2 else reversed(benches):
                slowness.append(await asyncio.to_thread(measure_slowness))
                await bench.run_round()
        naive, stoker = [await _side(bench) for bench in benches]
        return Comparison(naive, stoker, statistics.median(slowness))


async def _side(bench: Bench) -> Side:
    peer = bench.peer
    memory = {name: resident_mebibytes(pid) for name, pid in peer.pids.items()}
    idle = await bench.idle_percent(IDLE_SECONDS)
    put_ms = await asyncio.to_thread(put_cpu_ms, peer.s3) if peer.s3 else 0.0
    return Side(peer.name, summarize(bench.rounds), idle, memory, put_ms)


def main() -> None:
    """Compare, print, keep."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="stoker-bench-") as folder:
        comparison = asyncio.run(compare(Path(folder), rounds))
    RESULTS.mkdir(exist_ok=True)
    now = datetime.now(UTC)
    kept = RESULTS / f"{now:%Y%m%d-%H%M%S}.json"
    about = {"at": now.isoformat(), "machine": platform.platform(), "cores": os.cpu_count(), "rounds": rounds}
    about["load_average_at_the_end"] = os.getloadavg()[0]
    kept.write_text(json.dumps(about | comparison.as_json(), indent=2) + "\n")
    print(render(comparison))
    print(f"\nwritten to {kept}")


if __name__ == "__main__":
    main()
