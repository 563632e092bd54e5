"""When stores, engines or answers fail under an attempt, its job still ends as it should, and tells no secret."""

import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

import pytest

from schemas.errors import DatabaseFaultError
from schemas.events import EngineEvent, Token
from storage import claims
from storage.database import Database
from storage.rows import from_json
from tasks.attempt import Reason
from tasks.engine import EngineRequest, EngineState
from tasks.outcome import End
from tests.integration.bench import PATIENCE_SECONDS, Bench, ends, make_engine, run_bench
from workers.engines.fake import FakeEngine


def test_a_sick_object_store_is_waited_for(bench: Bench) -> None:
    bench.objects.faults = 3
    job_id = bench.submit()
    assert ends(bench.hint()) == [End.SUCCEEDED]
    row = bench.row(job_id)
    assert (row.attempt, row.lost, row.errors) == (1, 0, 0)


def test_a_store_that_stays_sick_ends_the_job_at_its_timeout(bench: Bench) -> None:
    bench.objects.faults = 10**6
    job_id = bench.submit(timeout_seconds=0.5)
    assert ends(bench.hint()) == [End.FAILED]
    assert from_json(bench.row(job_id).error)["code"] == "timeout"


@pytest.mark.parametrize(
    ("reason", "status"), [(Reason.CANCELED, "canceled"), (Reason.HANDED_BACK, "queued"), (Reason.REPLACED, "running")]
)
def test_waiting_for_a_store_can_be_stopped(bench: Bench, reason: Reason, status: str) -> None:
    bench.objects.faults = 10**6
    job_id = bench.submit()
    bench.run(job_id)
    assert bench.objects.failed.wait(PATIENCE_SECONDS)
    bench.do(bench.execution.stop_all, reason)
    bench.finish()
    assert bench.row(job_id).status == status


class ForgetfulDatabase(Database):
    """Its first commit of an operation is answered by an error; `does_it` says whether it happened."""

    operation: Callable[..., Any] | None = None
    does_it = True

    async def awrite(self, operation: Callable[..., Any], argument: Any, *, later: bool = False) -> Any:
        if operation is not self.operation:
            return await super().awrite(operation, argument, later=later)
        self.operation = None
        if self.does_it:
            await super().awrite(operation, argument, later=later)
        raise DatabaseFaultError("the connection broke")


@pytest.fixture
def forgetful(database_url: str, redis_url: str) -> Iterator[tuple[Bench, ForgetfulDatabase]]:
    database = ForgetfulDatabase(database_url)
    with run_bench(database, redis_url) as bench:
        yield bench, database
    database.close()


@pytest.mark.parametrize("does_it", [True, False])
def test_a_finish_without_an_answer_is_made_sure_of(
    forgetful: tuple[Bench, ForgetfulDatabase], *, does_it: bool
) -> None:
    bench, database = forgetful
    database.operation, database.does_it = claims.finish, does_it
    job_id = bench.submit()
    assert ends(bench.hint()) == [End.SUCCEEDED]
    row = bench.row(job_id)
    assert (row.status, row.attempt) == ("succeeded", 1)
    assert bench.objects.keys() == [from_json(row.artifacts)[0]["key"]]


@pytest.mark.parametrize("does_it", [True, False])
def test_a_release_without_an_answer_does_no_harm(
    forgetful: tuple[Bench, ForgetfulDatabase], *, does_it: bool
) -> None:
    bench, database = forgetful
    database.operation, database.does_it = claims.release, does_it
    job_id = bench.submit("fake:fail")
    bench.hint()
    row = bench.row(job_id)
    assert (row.status, row.errors) == ("queued", 1)


def test_a_claim_that_faults_runs_nothing_and_leaves_its_place(forgetful: tuple[Bench, ForgetfulDatabase]) -> None:
    bench, database = forgetful
    bench.submit()
    for _ in range(10):
        database.operation, database.does_it = claims.claim, False
        assert bench.hint() == []
    assert ends(bench.hint()) == [End.SUCCEEDED]


class WrongDatabase(Database):
    """A claim fails in a way that nobody foresaw."""

    is_wrong = True

    async def awrite(self, operation: Callable[..., Any], argument: Any, *, later: bool = False) -> Any:
        if operation is claims.claim and self.is_wrong:
            raise RuntimeError("a column is missing")
        return await super().awrite(operation, argument, later=later)


def test_a_claim_that_fails_unforeseen_leaves_its_places(database_url: str, redis_url: str) -> None:
    database = WrongDatabase(database_url)
    with run_bench(database, redis_url) as bench:
        bench.submit()
        assert bench.hint() == []
        assert bench.gate.room() == 4
        database.is_wrong = False
        assert ends(bench.hint()) == [End.SUCCEEDED]
    database.close()


def test_a_dead_engine_leaves_its_jobs_to_the_reconciler(bench: Bench) -> None:
    died = threading.Event()
    bench.execution.on_engine_dead = died.set
    job_ids = [bench.submit("fake:hang"), bench.submit("fake:hang")]
    for job_id in job_ids:
        bench.run(job_id)
    bench.submit("fake:dead")
    assert ends(bench.hint()) == [End.LOST] * 3
    assert died.is_set()
    assert bench.engine.state is EngineState.DEAD
    assert {bench.row(job_id).status for job_id in job_ids} == {"running"}


class OddEngine(FakeEngine):
    """Does what an engine must not."""

    async def run(self, request: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
        yield Token("so far")
        match request.input["prompt"]:
            case "raise":
                raise RuntimeError("a secret of the engine")
            case "go on":
                async for event in super().run(request):
                    yield event
                yield Token("and on")
            case "timeout":
                raise TimeoutError


@pytest.mark.parametrize("prompt", ["raise", "end early", "go on", "timeout"])
def test_an_engine_that_misbehaves_fails_the_attempt_without_a_secret(
    database: Database, redis_url: str, prompt: str
) -> None:
    with run_bench(database, redis_url, make_engine(OddEngine)) as bench:
        job_id = bench.submit(prompt, max_attempts=1)
        assert ends(bench.hint()) == [End.FAILED]
        error = from_json(bench.row(job_id).error)
        assert error["code"] == "engine_error"
        assert "secret" not in error["message"]
