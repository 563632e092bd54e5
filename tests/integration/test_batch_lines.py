"""Lines beside jobs, which go first, and lines that name adapters: who runs where, and with what."""

from collections.abc import AsyncGenerator, Iterator
from dataclasses import replace

import pytest

from schemas.batches import Endpoint
from schemas.events import EngineEvent, Finished
from schemas.ids import new_id
from storage import adapters
from storage.adapters import NewAdapter
from storage.database import Database
from tasks.batch_views import batch_view
from tasks.engine import EngineRequest
from tests.contract.sql import CALLER
from tests.integration.batches import Office, chat_line, chat_lines, lines_of, run
from tests.integration.bench import CATALOG, Bench, make_engine, run_bench
from workers.engines.fake import FakeEngine


@pytest.fixture
def office(bench: Bench) -> Office:
    return Office(bench.database, bench.objects, CATALOG)


@pytest.fixture
def slow(database: Database, redis_url: str) -> Iterator[Bench]:
    """A bench whose engine can be full for a while: eight slots, of which lines get seven."""
    with run_bench(database, redis_url, make_engine(slots=8, decode_step_ms=5)) as opened:
        yield opened


class NotingEngine(FakeEngine):
    """Notes which adapters it was asked for."""

    def run(self, request: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
        noted.append(request.input.get("adapter"))
        return super().run(request)


noted: list[str | None] = []


def test_lines_may_name_the_adapters_of_their_caller_even_when_they_are_deleted_meanwhile(
    database: Database, redis_url: str
) -> None:
    mine = NewAdapter(new_id("lora"), CALLER, "comic", "echo", "text", "a" * 64, 12, rank=4, dtype="F32")
    foreign = replace(mine, id=new_id("lora"), caller_id="somebody", name="secret", sha256="b" * 64)
    for new in (mine, foreign):
        database.transact(lambda connection, new=new: adapters.add(connection, new))  # type: ignore[misc]  # bound
    names = ["echo:comic", f"echo:{mine.id}", "echo", "echo:secret", f"echo:{foreign.id}"]
    noted.clear()
    with run_bench(database, redis_url, make_engine(NotingEngine)) as bench:
        office = Office(database, bench.objects, CATALOG)
        batch_id = office.publish([chat_line(name, model=name) for name in names])
        database.transact(lambda connection: adapters.delete(connection, mine.id, [CALLER]))
        run(bench, office, batch_id)
    assert sorted(noted, key=str) == [None, mine.id, mine.id]
    assert [line["response"]["body"]["model"] for line in office.output(batch_id)] == names[:3]
    assert [line["response"]["body"]["error"]["code"] for line in office.errors(batch_id)] == ["model_not_found"] * 2


@pytest.mark.parametrize("adapter", ["comic", "nobody"])
def test_native_lines_name_adapters_as_jobs_do(bench: Bench, office: Office, adapter: str) -> None:
    mine = NewAdapter(new_id("lora"), CALLER, "comic", "echo", "text", "a" * 64, 12, rank=4, dtype="F32")
    bench.database.transact(lambda connection: adapters.add(connection, mine))
    body = {"kind": "text", "model": "echo", "input": {"prompt": "hello", "max_tokens": 3, "adapter": adapter}}
    batch_id = office.publish([chat_line("a") | {"url": "/v1/jobs", "body": body}], endpoint=Endpoint.JOBS)
    run(bench, office, batch_id)
    if adapter == "comic":
        assert office.counts(batch_id) == ("completed", 1, 0)
    else:
        [error] = office.errors(batch_id)
        assert error["response"]["body"]["error"]["message"] == "'echo' has no adapter 'nobody'. It has none."


def test_jobs_go_first_and_find_places_that_lines_never_take(slow: Bench) -> None:
    office = Office(slow.database, slow.objects, CATALOG)
    office.publish(chat_lines(["fake:hang"] * 20))
    slow.start()
    slow.until(lambda: slow.lines.running == 7)
    job_id = slow.submit("hello")
    slow.start()
    slow.until(lambda: slow.row(job_id).status == "succeeded")
    assert slow.lines.running == 7


def test_lines_make_room_for_jobs_that_wait_while_the_engine_is_full(slow: Bench) -> None:
    office = Office(slow.database, slow.objects, CATALOG)
    office.publish(chat_lines(["fake:hang"] * 7))
    slow.start()
    slow.until(lambda: slow.lines.running == 7)
    job_ids = [slow.submit("fake:hang") for _ in range(3)]
    for _ in job_ids:
        slow.start()
    slow.until(lambda: {slow.row(job_id).status for job_id in job_ids} == {"running"})
    slow.until(lambda: slow.lines.running == 5)
    slow.until(lambda: [status for (status,) in lines_of(slow.database, "status")].count("queued") == 2)
    assert {lost for (lost,) in lines_of(slow.database, "lost")} == {0}
    assert {errors for (errors,) in lines_of(slow.database, "errors")} == {0}


def test_lines_with_many_answers_take_no_more_places_than_others(slow: Bench) -> None:
    office = Office(slow.database, slow.objects, CATALOG)
    office.publish([chat_line(f"line-{number}", "fake:hang", n=3) for number in range(20)])
    slow.start()
    slow.until(lambda: slow.gate.in_flight == 7)  # what they weigh is not known before they are read
    job_ids = [slow.submit("fake:hang") for _ in range(2)]
    for _ in job_ids:
        slow.start()
    slow.until(lambda: {slow.row(job_id).status for job_id in job_ids} == {"running"})
    slow.until(lambda: slow.lines.running == 2)
    slow.start()
    slow.until(lambda: [status for (status,) in lines_of(slow.database, "status")].count("queued") == 18)
    assert slow.lines.running == 2
    assert {errors for (errors,) in lines_of(slow.database, "errors")} == {0}


def test_lines_find_the_few_places_that_jobs_leave(database: Database, redis_url: str) -> None:
    with run_bench(database, redis_url, make_engine(slots=32)) as crowded:
        job_ids = [crowded.submit("fake:hang") for _ in range(28)]
        crowded.start()
        crowded.until(lambda: {crowded.row(job_id).status for job_id in job_ids} == {"running"})
        office = Office(crowded.database, crowded.objects, CATALOG)
        batch_id = office.publish(chat_lines(["hello"] * 20))
        crowded.start()
        crowded.until(lambda: office.row(batch_id).status == "finalizing")
        assert office.counts(batch_id) == ("finalizing", 20, 0)
        assert {crowded.row(job_id).status for job_id in job_ids} == {"running"}
        assert {crowded.row(job_id).attempt for job_id in job_ids} == {1}


class CachingEngine(FakeEngine):
    """Knows two tokens of each prompt from before."""

    async def run(self, request: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
        async for event in super().run(request):
            if isinstance(event, Finished):
                event = replace(event, usage=event.usage | {"cached_prompt_tokens": 2})  # noqa: PLW2901 - passed on
            yield event


def test_tokens_that_were_known_from_before_are_counted(database: Database, redis_url: str) -> None:
    with run_bench(database, redis_url, make_engine(CachingEngine)) as bench:
        office = Office(database, bench.objects, CATALOG)
        batch_id = office.publish([*chat_lines(["hello"] * 3), chat_line("wrong", model="nobody")])
        run(bench, office, batch_id)
        assert batch_view(office.row(batch_id))["usage"]["input_tokens_details"] == {"cached_tokens": 6}
