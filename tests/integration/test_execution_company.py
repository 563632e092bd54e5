"""Who runs beside whom: never more than the slots, and suspects apart from the others."""

from collections.abc import AsyncGenerator
from typing import Any

from schemas.base import JsonObject
from schemas.events import EngineEvent
from storage.database import Database
from tasks.engine import EngineRequest
from tasks.outcome import End
from tests.integration.bench import (
    Bench,
    ends,
    lose,
    make_engine,
    run_bench,
)
from workers.engines.fake import FakeEngine

IMAGE: JsonObject = {"prompt": "a red circle", "n": 2, "steps": 2}


class WatchedEngine(FakeEngine):
    """Notes which jobs run together."""

    companies: list[frozenset[str]]

    async def run(self, request: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
        async for event in super().run(request):
            self.companies.append(frozenset(self._inside))
            yield event


def watched_engine(**options: Any) -> WatchedEngine:
    engine = make_engine(WatchedEngine, **options)
    assert isinstance(engine, WatchedEngine)
    engine.companies = []
    return engine


def test_one_hint_empties_the_queue_and_never_fills_more_than_the_slots(database: Database, redis_url: str) -> None:
    engine = watched_engine(slots=4, decode_step_ms=1)
    with run_bench(database, redis_url, engine) as bench:
        job_ids = [bench.submit() for _ in range(50)]
        assert sorted(outcome.job_id for outcome in bench.hint()) == sorted(job_ids)
    assert max(len(company) for company in engine.companies) == 4


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
