"""What a job's row says about speed, and what its worker counts of it."""

import json
from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest

from schemas.base import JsonObject
from schemas.events import EngineEvent, EventType, Finished
from storage.database import Database
from tasks.engine import EngineRequest
from tests.integration.bench import Bench, make_engine, run_bench
from workers.engines.fake import FakeEngine


def ran(bench: Bench, given: JsonObject) -> JsonObject:
    """The metrics of a job that was run."""
    job_id = bench.submit(given)
    bench.hint()
    return metrics(bench, job_id)


def metrics(bench: Bench, job_id: str) -> JsonObject:
    """What a job's row says."""
    told: JsonObject = json.loads(bench.row(job_id).metrics or "{}")
    return told


def test_a_job_tells_how_fast_its_tokens_came(bench: Bench) -> None:
    told = ran(bench, {"prompt": "hello", "max_tokens": 8})
    assert told["device"] == "cpu0"
    assert told["run_ms"] == pytest.approx(told["prefill_ms"] + told["decode_ms"], abs=0.2)
    assert told["ttft_ms"] == pytest.approx(told["queue_ms"] + told["prefill_ms"], abs=0.2)
    assert told["time_per_output_token_ms"] == pytest.approx(told["decode_ms"] / 7, abs=0.1)
    assert told["tokens_per_second"] > 0


def test_a_job_that_failed_or_was_canceled_keeps_what_is_known(bench: Bench) -> None:
    refused = ran(bench, {"prompt": "fake:refuse"})
    assert refused.keys() >= {"queue_ms", "run_ms", "device"}
    assert not refused.keys() & {"ttft_ms", "tokens_per_second"}
    hanging = bench.submit({"prompt": "fake:hang", "max_tokens": 4})
    bench.run(hanging)
    bench.until(lambda: any(one.type is EventType.TOKEN for one in bench.events(hanging)))
    bench.do(bench.execution.cancel, hanging, 1)
    bench.finish()
    assert bench.row(hanging).status == "canceled"
    assert metrics(bench, hanging).keys() >= {"queue_ms", "run_ms", "prefill_ms", "ttft_ms"}


def test_what_the_engine_measured_counts_before_our_clock(database: Database, redis_url: str) -> None:
    class Timed(FakeEngine):
        async def run(self, request: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
            async for event in super().run(request):
                if isinstance(event, Finished):
                    known = {"prefill_ms": 7.0, "engine_queue_ms": 2.0, "preemptions": 1, "cached_prompt_tokens": 3}
                    yield replace(event, metrics=known)
                else:
                    yield event

    with run_bench(database, redis_url, make_engine(Timed)) as bench:
        streamed = ran(bench, {"prompt": "hello"})
        silent = ran(bench, {"prompt": "hello", "stream": False})
        counted = bench.execution.statistics.sums()["counted"]
    assert streamed["prefill_ms"] == silent["prefill_ms"] == 7.0
    assert silent["ttft_ms"] == pytest.approx(silent["queue_ms"] + 9.0, abs=0.1)
    assert (counted["preemptions"], counted["cached_prompt_tokens"]) == (2, 6)
