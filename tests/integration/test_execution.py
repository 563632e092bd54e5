"""What a hint sets in motion ends in the right row, the right bytes and the right events, whatever goes wrong."""

import hashlib
import json
from collections.abc import AsyncGenerator
from typing import Any

from schemas.base import JsonObject
from schemas.events import EngineEvent, EventType
from storage import claims, jobs, workers
from storage.claims import Claim
from storage.database import Database
from storage.objects.port import input_key
from storage.rows import from_json
from tasks.attempt import INLINE_BYTES, Reason
from tasks.engine import EngineRequest
from tasks.outcome import End
from tests.contract.sql import QUEUE, new_job
from tests.integration.bench import (
    SIBLING,
    WORKER,
    Bench,
    ends,
    introduce,
    lose,
    make_engine,
    run_bench,
)
from workers.engines.fake import FakeEngine, expected_artifacts, expected_output

IMAGE: JsonObject = {"prompt": "a red circle", "n": 2, "steps": 2}


class WatchedEngine(FakeEngine):
    """Notes which jobs run together, and whose turn it was."""

    companies: list[frozenset[str]]
    ranks: list[float]

    async def run(self, request: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
        assert request.rank is not None
        self.ranks.append(request.rank)
        async for event in super().run(request):
            self.companies.append(frozenset(self._inside))
            yield event


def watched_engine(**options: Any) -> WatchedEngine:
    engine = make_engine(WatchedEngine, **options)
    assert isinstance(engine, WatchedEngine)
    engine.companies = []
    engine.ranks = []
    return engine


def test_a_text_job_leaves_output_object_and_figures(bench: Bench) -> None:
    job_id = bench.submit("hello")
    assert [str(outcome) for outcome in bench.hint()] == [f"{job_id} succeeded"]
    row = bench.row(job_id)
    output = expected_output("text", {"prompt": "hello", "max_tokens": 5})
    assert (row.status, row.attempt, from_json(row.output)) == ("succeeded", 1, output)
    [artifact] = from_json(row.artifacts)
    content = bench.objects.get(artifact["key"])
    assert json.loads(content) == output
    assert (artifact["name"], artifact["content_type"]) == ("result.json", "application/json")
    assert (artifact["bytes"], artifact["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert from_json(row.usage) == {"prompt_tokens": 1, "completion_tokens": 5}
    metrics = from_json(row.metrics)
    assert (metrics["device"], metrics["worker"], metrics["attempt"]) == ("cpu0", WORKER, 1)
    assert {"queue_ms", "run_ms", "ttft_ms", "tokens_per_second"} <= metrics.keys()


def test_an_image_job_leaves_its_images_only(bench: Bench) -> None:
    job_id = bench.submit(IMAGE, kind="image")
    bench.hint()
    row = bench.row(job_id)
    artifacts = from_json(row.artifacts)
    assert {one["name"]: bench.objects.get(one["key"]) for one in artifacts} == expected_artifacts("image", IMAGE)
    assert from_json(row.output) == expected_output("image", IMAGE)


def test_its_readers_hear_the_whole_story(bench: Bench) -> None:
    job_id = bench.submit("hello")
    bench.hint()
    envelopes = bench.events(job_id)
    assert envelopes[0].type is EventType.STARTED
    assert envelopes[-1].type is EventType.FINISHED
    assert envelopes[-1].data == {"status": "succeeded", "error": None}
    text = "".join(envelope.data["text"] for envelope in envelopes if envelope.type is EventType.TOKEN)
    assert text == from_json(bench.row(job_id).output)["text"]


def test_a_large_input_comes_from_the_object_store(bench: Bench) -> None:
    job = new_job()
    given = {"prompt": "large", "max_tokens": 5}
    bench.objects.put(input_key(job.id), json.dumps(given).encode(), "application/json")
    bench.database.write(jobs.submit, jobs.Submission(job, None, input_key(job.id)))
    bench.objects.faults = 2
    assert ends(bench.hint()) == [End.SUCCEEDED]
    assert from_json(bench.row(job.id).output) == expected_output("text", given)


def test_a_large_output_is_only_in_the_object_store(bench: Bench) -> None:
    given: JsonObject = {"texts": [f"text {number}" for number in range(100)]}
    job_id = bench.submit(given, kind="embedding")
    bench.hint()
    row = bench.row(job_id)
    content = bench.objects.get(from_json(row.artifacts)[0]["key"])
    assert len(content) > INLINE_BYTES
    assert row.output is None
    assert json.loads(content) == expected_output("embedding", given)


def test_one_hint_empties_the_queue_and_never_fills_more_than_the_slots(database: Database, redis_url: str) -> None:
    engine = watched_engine(slots=4, decode_step_ms=1)
    with run_bench(database, redis_url, engine) as bench:
        job_ids = [bench.submit() for _ in range(50)]
        assert sorted(outcome.job_id for outcome in bench.hint()) == sorted(job_ids)
    assert max(len(company) for company in engine.companies) == 4


def test_the_engine_is_told_who_goes_first(database: Database, redis_url: str) -> None:
    engine = watched_engine()
    with run_bench(database, redis_url, engine) as bench:
        job_ids = [bench.submit() for _ in range(2)]
        bench.hint()
        assert sorted(engine.ranks) == sorted(bench.row(job_id).rank for job_id in job_ids)


def test_hints_that_come_together_are_answered_together(bench: Bench) -> None:
    job_ids = [bench.submit() for _ in range(3)]
    for _ in range(20):
        bench.start()
    assert sorted(outcome.job_id for outcome in bench.finish()) == sorted(job_ids)


def test_a_hint_for_nothing_dies_and_leaves_its_places(bench: Bench) -> None:
    for _ in range(10):
        assert bench.hint() == []
    assert bench.gate.room() == 4


def test_an_empty_queue_lets_it_help_a_sibling(bench: Bench) -> None:
    job_id = bench.submit(queue=SIBLING)
    assert ends(bench.hint()) == [End.SUCCEEDED]
    assert from_json(bench.row(job_id).metrics)["device"] == "cpu0"


def test_a_refused_input_fails_at_once(bench: Bench) -> None:
    job_id = bench.submit("fake:refuse")
    assert ends(bench.hint()) == [End.FAILED]
    row = bench.row(job_id)
    assert (row.status, from_json(row.error)["code"]) == ("failed", "engine_refused")
    assert bench.events(job_id)[-1].data["error"]["code"] == "engine_refused"


def test_an_engine_error_is_tried_again_later_and_ends_after_the_last_attempt(bench: Bench) -> None:
    job_id = bench.submit("fake:fail", max_attempts=2)
    assert ends(bench.hint()) == [End.REQUEUED]
    row = bench.row(job_id)
    assert (row.status, row.errors, row.lost) == ("queued", 1, 0)
    assert row.run_at is not None
    release_now(bench)
    assert ends(bench.hint()) == [End.FAILED]
    assert from_json(bench.row(job_id).error)["code"] == "engine_error"


def release_now(bench: Bench) -> None:
    """Let scheduled jobs be claimed now."""
    update = "UPDATE jobs SET run_at = NULL"
    bench.database.transact(lambda connection: connection.exec_driver_sql(update))


def test_another_attempt_tells_readers_to_begin_anew(bench: Bench) -> None:
    job_id = bench.submit("fake:fail-times=1")
    bench.hint()
    release_now(bench)
    assert ends(bench.hint()) == [End.SUCCEEDED]
    assert bench.events(job_id)[0].type is EventType.RESTARTED
    assert {envelope.attempt for envelope in bench.events(job_id)} == {2}


def test_a_job_that_takes_too_long_fails_and_its_slot_is_free(bench: Bench) -> None:
    job_id = bench.submit("fake:hang", timeout_seconds=0.05)
    assert ends(bench.hint()) == [End.FAILED]
    assert from_json(bench.row(job_id).error)["code"] == "timeout"
    bench.until(lambda: bench.engine.capacity().free == 4)


def test_an_order_cancels_the_attempt_that_it_names(bench: Bench) -> None:
    job_id = bench.submit("fake:hang")
    bench.run(job_id)
    bench.do(bench.execution.cancel, job_id, 1)
    assert ends(bench.finish()) == [End.CANCELED]
    assert bench.row(job_id).status == "canceled"
    assert bench.events(job_id)[-1].data == {"status": "canceled", "error": None}


def test_an_order_for_another_attempt_or_job_cancels_nothing(bench: Bench) -> None:
    job_id = bench.submit("fake:hang")
    bench.run(job_id)
    bench.do(bench.execution.cancel, job_id, 7)
    bench.do(bench.execution.cancel, "job_other", 1)
    bench.do(bench.execution.stop_all, Reason.HANDED_BACK)  # of two reasons the first one counts
    assert ends(bench.finish()) == [End.REQUEUED]


def held(bench: Bench) -> tuple[workers.Held, ...]:
    beat = workers.Beat(WORKER, 60, "ready", 0, None)
    return bench.database.write(workers.beat, beat).held


def test_a_beat_brings_a_cancel_whose_order_was_lost(bench: Bench) -> None:
    job_id = bench.submit("fake:hang")
    bench.run(job_id)
    bench.database.transact(lambda connection: jobs.cancel(connection, job_id))
    bench.do(bench.execution.compare, held(bench), {})
    assert ends(bench.finish()) == [End.CANCELED]


def test_a_claim_whose_answer_was_lost_is_noticed_at_the_second_beat(bench: Bench) -> None:
    job_id = bench.submit()
    bench.database.write(claims.claim, Claim(QUEUE, WORKER))
    bench.do(bench.execution.compare, held(bench), {})
    assert bench.row(job_id).status == "running"
    bench.do(bench.execution.compare, held(bench), {})
    row = bench.row(job_id)
    assert (row.status, row.attempt, row.lost, row.errors) == ("queued", 1, 0, 0)
    bench.until(lambda: bench.hints_waiting() == 1)  # it is sent soon


def test_what_is_handed_back_costs_the_job_nothing(bench: Bench) -> None:
    job_id = bench.submit("fake:hang")
    bench.run(job_id)
    bench.do(bench.execution.stop_all, Reason.HANDED_BACK)
    assert ends(bench.finish()) == [End.REQUEUED]
    row = bench.row(job_id)
    assert (row.status, row.attempt, row.lost, row.errors, row.run_at) == ("queued", 1, 0, 0, None)


def test_a_canceled_job_that_is_handed_back_is_canceled(bench: Bench) -> None:
    job_id = bench.submit("fake:hang")
    bench.run(job_id)
    bench.database.transact(lambda connection: jobs.cancel(connection, job_id))
    bench.do(bench.execution.stop_all, Reason.HANDED_BACK)
    assert ends(bench.finish()) == [End.CANCELED]
    assert bench.row(job_id).status == "canceled"


def replace_worker(bench: Bench) -> None:
    """Declare the bench's worker lost, as the reconciler does, and have another one take its jobs."""
    bench.database.transact(lambda connection: workers.leave(connection, WORKER))
    bench.database.transact(workers.requeue_lost)
    introduce(bench.database, "worker_b")
    bench.database.write(claims.claim, Claim(QUEUE, "worker_b", 10, most_lost=2))


def test_the_result_of_a_replaced_attempt_is_dropped_with_its_objects(bench: Bench) -> None:
    job_id = bench.submit("fake:sleep-ms=200")
    bench.run(job_id)
    replace_worker(bench)
    assert ends(bench.finish()) == [End.REPLACED]
    row = bench.row(job_id)
    assert (row.status, row.attempt, row.owner, row.output) == ("running", 2, "worker_b", None)
    assert bench.objects.keys() == []


def test_suspects_run_in_fours_and_those_lost_twice_alone(database: Database, redis_url: str) -> None:
    engine = watched_engine(slots=8, decode_step_ms=2)
    with run_bench(database, redis_url, engine) as bench:
        twice = [bench.submit() for _ in range(2)]
        lose(database)
        once = [bench.submit() for _ in range(6)]
        lose(database)
        clean = bench.submit("fake:sleep-ms=50")
        bench.run(clean)
        outcomes = bench.hint(suspects=True)
    assert sorted(outcome.job_id for outcome in outcomes) == sorted([*once, *twice, clean])
    assert set(ends(outcomes)) == {End.SUCCEEDED}
    assert max(len(company) for company in engine.companies) == 4
    assert {company for company in engine.companies if company & {*twice, clean}} == {
        frozenset({job_id}) for job_id in (*twice, clean)
    }


def test_clean_jobs_have_their_turn_between_groups_of_suspects(database: Database, redis_url: str) -> None:
    with run_bench(database, redis_url, make_engine(slots=4, decode_step_ms=1)) as bench:
        suspects = [bench.submit() for _ in range(12)]
        lose(database)
        clean = [bench.submit() for _ in range(4)]
        bench.start(suspects=True)
        order = [outcome.job_id for outcome in bench.hint()]
    assert sorted(order) == sorted([*suspects, *clean])
    assert max(order.index(job_id) for job_id in clean) < max(order.index(job_id) for job_id in suspects)


def test_a_hint_for_suspects_finds_none(bench: Bench) -> None:
    clean = bench.submit()
    assert bench.hint(suspects=True) == []
    assert bench.row(clean).status == "queued"


def test_a_closed_gate_claims_nothing(bench: Bench) -> None:
    job_id = bench.submit()
    bench.do(bench.gate.close)
    assert bench.hint() == bench.hint(suspects=True) == []
    assert bench.row(job_id).status == "queued"


def test_statistics_count_what_ended(bench: Bench) -> None:
    bench.submit()
    bench.submit("fake:fail")
    bench.hint()
    bench.hint()
    assert bench.execution.statistics.summary()["ended"] == 1
