"""GET /metrics, read by Prometheus's own parser."""

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from schemas.base import JsonObject
from storage import workers
from tasks.statistics import WAITS, Measured, Statistics
from tests.api import Desk

EMBEDDINGS = "embedding.twin.cpu1"


async def scrape(desk: Desk) -> dict[str, list[Sample]]:
    """Every sample by its name."""
    answer = await desk.client.get("/metrics")
    assert answer.status_code == 200, answer.text
    samples: dict[str, list[Sample]] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append(sample)
    return samples


def text_job(status: str = "succeeded", **metrics: float) -> Measured:
    return Measured("text", status, 50.0, {"queue_ms": 4.0, **metrics}, {"prompt_tokens": 10, "completion_tokens": 5})


def sums_of(*jobs: Measured) -> JsonObject:
    statistics = Statistics(sla_ttft_ms=100)
    for job in jobs:
        statistics.add(job)
    return statistics.sums()


async def test_what_workers_count_of_their_jobs(desk: Desk) -> None:
    jobs = [text_job(ttft_ms=20.0, time_per_output_token_ms=12.0, run_ms=80.0), text_job("failed", ttft_ms=1e9)]
    worker = desk.worker()
    worker.beat(sums=sums_of(*jobs))
    samples = await scrape(desk)
    labels = {"model": "echo", "device": "cpu0", "worker": worker.id}

    def value(name: str, **more: str) -> float:
        [found] = [sample.value for sample in samples[name] if sample.labels == labels | more]
        return found

    assert value("stoker_jobs_ended_total", status="succeeded") == 1
    assert value("stoker_jobs_ended_total", status="failed") == 1
    assert (value("stoker_prompt_tokens_total"), value("stoker_completion_tokens_total")) == (20, 10)
    assert (value("stoker_sla_jobs_total"), value("stoker_sla_jobs_within_total")) == (2, 1)
    assert value("stoker_job_queue_seconds_count") == 2
    assert value("stoker_job_queue_seconds_sum") == 0.008
    assert value("stoker_job_run_seconds_count") == 1
    assert value("stoker_job_time_per_output_token_seconds_bucket", le="0.01") == 0
    assert value("stoker_job_time_per_output_token_seconds_bucket", le="0.015") == 1
    buckets = [value("stoker_job_ttft_seconds_bucket", le=le) for le in ("0.01", "0.025", f"{WAITS[-1]:.1f}", "+Inf")]
    assert buckets == [0, 1, 1, 2]


async def test_each_worker_counts_for_itself_and_its_counters_end_with_it(desk: Desk) -> None:
    first, second = desk.worker(), desk.worker(EMBEDDINGS)
    first.beat(sums=sums_of(text_job()))
    second.beat(sums=sums_of(Measured("embedding", "succeeded", 5.0, {"queue_ms": 1.0}, {"prompt_tokens": 3})))
    desk.worker()  # it has not said anything yet
    samples = await scrape(desk)
    told = {sample.labels["worker"]: sample.value for sample in samples["stoker_prompt_tokens_total"]}
    assert told == {first.id: 10, second.id: 3}
    assert {sample.labels["model"] for sample in samples["stoker_job_queue_seconds_count"]} == {"echo", "twin"}
    assert "stoker_job_ttft_seconds_bucket" not in samples  # nothing was measured yet
    desk.database.transact(lambda connection: workers.leave(connection, first.id))
    left = (await scrape(desk))["stoker_prompt_tokens_total"]
    assert [sample.labels["worker"] for sample in left] == [second.id]


async def test_buckets_of_another_release_are_left_out(desk: Desk) -> None:
    told = sums_of(text_job(ttft_ms=1.0))
    told["distributions"]["ttft_ms"]["counts"] = [1, 2]
    del told["distributions"]["run_ms"]
    desk.worker().beat(sums=told)
    samples = await scrape(desk)
    assert "stoker_job_queue_seconds_count" in samples
    assert "stoker_job_ttft_seconds_count" not in samples


async def test_people_are_shown_percentiles_instead(desk: Desk) -> None:
    desk.worker().beat(sums=sums_of(text_job()), wait_ms={"p50": 4.0})
    [shown] = (await desk.client.get("/v1/workers")).json()["data"]
    assert shown["stats"] == {"wait_ms": {"p50": 4.0}}
