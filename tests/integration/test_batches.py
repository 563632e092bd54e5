"""A batch from its file to its output: validated, run beside jobs, assembled; and what can come between."""

import json

import pytest
import sqlalchemy as sa

from schemas.batches import Endpoint
from storage import batch_lines, batches, queues
from storage.batch_lines import LineClaim
from storage.database import Database
from storage.objects.port import batch_prefix
from storage.tables import batch_lines as lines_table
from tasks.attempt import Reason
from tasks.batches.answers import Answers
from tasks.dispatch import declare_queues
from tests.contract.sql import CALLER, QUEUE
from tests.integration.batches import Office, as_file, chat_line, chat_lines, lines_of, names, run
from tests.integration.bench import CATALOG, Bench


@pytest.fixture
def office(bench: Bench) -> Office:
    return Office(bench.database, bench.objects, CATALOG)


def test_every_line_is_in_the_output_once_and_in_the_order_of_the_file(bench: Bench, office: Office) -> None:
    batch_id = office.publish(chat_lines([f"say {number}" for number in range(700)]))
    assert office.hinted == sorted({QUEUE, "text.echo.cpu1"})
    run(bench, office, batch_id)
    assert office.counts(batch_id) == ("completed", 700, 0)
    output = office.output(batch_id)
    assert names(output) == [f"line-{number}" for number in range(700)]
    assert {line["response"]["status_code"] for line in output} == {200}
    first = output[0]["response"]["body"]
    assert first["object"] == "chat.completion"
    row = office.row(batch_id)
    assert row.completion_tokens == sum(line["response"]["body"]["usage"]["completion_tokens"] for line in output)
    assert row.prompt_tokens > 0
    assert (office.errors(batch_id), row.error_file_id) == ([], None)


def test_lines_go_to_no_paused_queue_while_another_is_open(bench: Bench, office: Office) -> None:
    declare_queues(bench.database, CATALOG)
    for name, expected in ((QUEUE, {"text.echo.cpu1"}), ("text.echo.cpu1", {QUEUE, "text.echo.cpu1"})):
        bench.database.transact(lambda connection, name=name: queues.pause(connection, name, paused=True))  # type: ignore[misc]  # bound
        office.publish(chat_lines(["hello"] * 200))
        assert set(office.hinted) == expected  # when all are paused, all get some
        office.hinted.clear()


def test_what_ran_leaves_nothing_but_its_files(bench: Bench, office: Office) -> None:
    batch_id = office.publish(chat_lines(["hello"] * 300))
    run(bench, office, batch_id)
    assert lines_of(bench.database, "id") == []
    kept = bench.objects.keys()
    assert [key for key in kept if key.startswith(batch_prefix(batch_id))] == []
    assert len(kept) == 2


def test_lines_that_are_wrong_in_themselves_fail_alone(bench: Bench, office: Office) -> None:
    lines = chat_lines(["hello"] * 5)
    lines[1]["body"]["model"] = "nobody"
    lines[2]["body"]["temperature"] = "hot"
    del lines[3]["body"]["model"]
    lines[4] = chat_line("line-4", "fake:refuse")
    batch_id = office.publish(lines)
    run(bench, office, batch_id)
    assert office.counts(batch_id) == ("completed", 1, 4)
    assert names(office.output(batch_id)) == ["line-0"]
    errors = office.errors(batch_id)
    assert names(errors) == ["line-1", "line-2", "line-3", "line-4"]
    said = [(line["response"]["status_code"], line["response"]["body"]["error"]["code"]) for line in errors]
    assert said == [(404, "model_not_found"), (400, "invalid"), (400, "invalid"), (400, "invalid")]
    assert all(line["error"] is None for line in errors)


def test_a_batch_of_which_no_line_can_run_ends_without_a_worker(office: Office) -> None:
    batch_id = office.create([chat_line("a", model="nobody"), chat_line("b", model="neither")])
    assert office.clerk.work_once()
    assert office.counts(batch_id) == ("finalizing", 0, 2)
    assert office.clerk.work_once()
    assert (office.row(batch_id).status, len(office.errors(batch_id))) == ("completed", 2)


def test_native_lines_are_answered_in_our_own_words(bench: Bench, office: Office) -> None:
    line = chat_line("a") | {
        "url": "/v1/jobs",
        "body": {"kind": "text", "model": "echo", "input": {"prompt": "hello", "max_tokens": 3}},
    }
    batch_id = office.publish([line], endpoint=Endpoint.JOBS)
    run(bench, office, batch_id)
    [answer] = office.output(batch_id)
    assert answer["response"]["body"]["output"]["text"]


@pytest.mark.parametrize(
    ("content", "flaws"),
    [
        (b"", [("empty_file", None)]),
        (as_file(chat_lines(["a", "b"])) + b"{]\n", [("invalid_json_line", 3)]),
        (as_file([chat_line("a"), chat_line("a")]), [("duplicate_custom_id", 2)]),
        (as_file(chat_lines(["x"] * 11)), [("too_many_lines", None)]),
    ],
)
def test_a_file_with_flaws_fails_its_batch_before_a_line_runs(
    office: Office, content: bytes, flaws: list[tuple[str, int | None]]
) -> None:
    office.settings = office.settings.model_copy(update={"max_batch_lines": 10})
    office.clerk = office.new_clerk()
    batch_id = office.create(content)
    assert office.clerk.work_once()
    row = office.row(batch_id)
    assert (row.status, row.total, row.failed_at is not None) == ("failed", 0, True)
    assert [(flaw["code"], flaw["line"]) for flaw in json.loads(row.errors or "[]")] == flaws
    assert lines_of(office.database, "id") == []
    assert not office.clerk.work_once()


LINE = b'{"custom_id":"%d","method":"POST","url":"/v1/chat/completions","body":{"model":"echo"}}\n'


@pytest.mark.parametrize(
    ("lines", "spoilt", "flaw"),
    [
        (50_001, None, ("too_many_lines", None, "A batch has 50,000 lines at most; split the file.")),
        (
            50_000,
            30_000,
            ("invalid_json_line", 30_000, "The line is not valid JSON (key must be a string at column 2)."),
        ),
    ],
)
def test_a_file_of_the_largest_size_is_judged_to_its_end(
    office: Office, lines: int, spoilt: int | None, flaw: tuple[str, int | None, str]
) -> None:
    content = [LINE % number for number in range(1, lines + 1)]
    if spoilt is not None:
        content[spoilt - 1] = b"{]\n"
    batch_id = office.create(b"".join(content))
    assert office.clerk.work_once()
    assert office.row(batch_id).status == "failed"
    assert [tuple(one[name] for name in ("code", "line", "message")) for one in flaws_of(office, batch_id)] == [flaw]
    assert lines_of(office.database, "id") == []


def flaws_of(office: Office, batch_id: str) -> list[dict[str, object]]:
    flaws: list[dict[str, object]] = json.loads(office.row(batch_id).errors or "[]")
    return flaws


def test_a_file_that_is_gone_fails_its_batch_with_a_sentence(office: Office, bench: Bench) -> None:
    batch_id = office.create(chat_lines(["hello"]))
    bench.objects.delete(bench.objects.keys())
    office.clerk.work_once()
    assert "file_not_found" in (office.row(batch_id).errors or "")


def test_a_line_that_stumbles_is_tried_again_and_one_that_always_fails_ends(bench: Bench, office: Office) -> None:
    batch_id = office.publish(chat_lines(["fake:fail-times=1", "fake:fail", "hello"]))
    bench.hint()
    assert office.counts(batch_id) == ("in_progress", 1, 0)
    for _ in range(2):
        bench.database.transact(lambda c: c.execute(sa.update(lines_table).values(run_at=None)))
        bench.hint()
    bench.until(lambda: office.row(batch_id).status == "finalizing")
    office.clerk.work_once()
    assert names(office.output(batch_id)) == ["line-0", "line-2"]
    [error] = office.errors(batch_id)
    assert (error["custom_id"], error["response"]["status_code"]) == ("line-1", 500)


def test_a_paused_batch_ends_what_runs_and_begins_nothing(bench: Bench, office: Office) -> None:
    batch_id = office.publish(chat_lines(["hello"] * 4))
    pause(office, batch_id, paused=True)
    bench.hint()
    assert office.counts(batch_id) == ("in_progress", 0, 0)
    pause(office, batch_id, paused=False)
    run(bench, office, batch_id)
    assert office.counts(batch_id) == ("completed", 4, 0)


def pause(office: Office, batch_id: str, *, paused: bool) -> None:
    office.database.transact(lambda c: batches.set_paused(c, batch_id, CALLER, paused=paused))


def cancel(office: Office, batch_id: str) -> None:
    office.database.transact(lambda connection: batches.request_cancel(connection, batch_id, CALLER))


def test_a_batch_that_is_canceled_keeps_what_was_done(bench: Bench, office: Office) -> None:
    batch_id = office.publish(chat_lines(["hello", "hello", "fake:hang", *["hello"] * 5]))
    bench.start()
    bench.until(lambda: office.row(batch_id).completed == 7)
    cancel(office, batch_id)
    bench.do(bench.execution.stop_batch, office.row(batch_id).number)
    bench.finish()
    assert office.counts(batch_id) == ("cancelling", 7, 1)
    office.clerk.work_once()
    assert office.counts(batch_id) == ("cancelled", 7, 1)
    assert len(office.output(batch_id)) == 7
    [error] = office.errors(batch_id)
    assert (error["custom_id"], error["error"]["code"]) == ("line-2", "batch_cancelled")


def test_a_beat_stops_the_lines_of_a_batch_whose_order_to_stop_was_lost(bench: Bench, office: Office) -> None:
    batch_id = office.publish(chat_lines(["fake:hang"] * 3))
    bench.start()
    bench.until(lambda: bench.lines.running == 3)
    cancel(office, batch_id)
    held = bench.database.read(lambda connection: batch_lines.held_by(connection, bench.execution.worker_id))
    assert held == {}
    bench.do(bench.execution.compare, [], held)
    assert bench.lines.running == 3
    bench.do(bench.execution.compare, [], held)
    bench.finish()
    assert bench.lines.running == 0
    assert office.counts(batch_id) == ("cancelling", 0, 3)


def test_a_claim_whose_answer_was_lost_is_given_back_after_two_beats(bench: Bench, office: Office) -> None:
    batch_id = office.publish(chat_lines(["hello"] * 2))
    bench.database.write(batch_lines.claim, LineClaim(QUEUE, bench.execution.worker_id, 2))
    held = bench.database.read(lambda connection: batch_lines.held_by(connection, bench.execution.worker_id))
    bench.do(bench.execution.compare, [], held)
    bench.do(bench.execution.compare, [], held)
    run(bench, office, batch_id)
    assert office.counts(batch_id) == ("completed", 2, 0)


def test_a_batch_that_is_canceled_before_it_was_read_runs_nothing(office: Office) -> None:
    batch_id = office.create(chat_lines(["hello"]))
    cancel(office, batch_id)
    assert office.clerk.work_once()
    row = office.row(batch_id)
    assert (row.status, row.output_file_id, row.error_file_id) == ("cancelled", None, None)


def test_a_window_that_closes_leaves_a_batch_with_what_was_done(bench: Bench, office: Office) -> None:
    batch_id = office.publish(chat_lines(["hello", "fake:hang"]), window_seconds=2.0)
    bench.start()
    bench.until(lambda: office.row(batch_id).completed == 1)
    bench.until(lambda: bool(bench.database.transact(lambda c: batches.close_windows(c, 5))))
    bench.do(bench.execution.stop_batch, office.row(batch_id).number)
    office.clerk.work_once()
    assert office.counts(batch_id) == ("expired", 1, 1)
    assert [line["error"]["code"] for line in office.errors(batch_id)] == ["batch_expired"]


def test_lines_that_are_handed_back_run_again_uncounted(bench: Bench, office: Office) -> None:
    batch_id = office.publish(chat_lines(["fake:sleep-ms=300"] * 3))
    bench.start()
    bench.until(lambda: bench.lines.running == 3)
    bench.do(bench.execution.stop_all, Reason.HANDED_BACK)
    run(bench, office, batch_id)
    assert office.counts(batch_id) == ("completed", 3, 0)


def test_what_a_sick_store_did_not_take_is_stored_when_it_is_well(bench: Bench, office: Office) -> None:
    batch_id = office.publish(chat_lines(["hello"] * 3))
    bench.objects.faults = 3
    run(bench, office, batch_id)
    assert office.counts(batch_id) == ("completed", 3, 0)


@pytest.mark.parametrize("faults", range(1, 6))
def test_files_are_begun_anew_when_the_store_fell_sick(bench: Bench, office: Office, faults: int) -> None:
    batch_id = office.publish(chat_lines(["hello"] * 200))
    bench.hint()
    bench.until(lambda: office.row(batch_id).status == "finalizing")
    bench.objects.faults = faults
    assert not office.clerk.work_once()
    assert office.row(batch_id).status == "finalizing"
    bench.objects.faults = 0
    bench.until(office.clerk.work_once)
    assert names(office.output(batch_id)) == [f"line-{number}" for number in range(200)]


def let_leases_end(database: Database) -> None:
    """As if nobody had kept them for long enough."""
    database.transact(lambda connection: connection.execute(sa.text("UPDATE batches SET leased_until = 0")))


def test_who_lost_the_work_on_a_batch_writes_nothing(
    bench: Bench, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first dies after it took the work: the second waits for the lease, and the first one's outcome is void."""
    first, second = office.new_clerk(), office.new_clerk()
    batch_id = office.create(chat_lines(["hello"] * 3))
    outcomes: list[bool] = []

    read = bench.objects.get

    def slowly(key: str) -> bytes:
        monkeypatch.undo()
        let_leases_end(office.database)
        outcomes.append(second.work_once())
        return read(key)

    monkeypatch.setattr(bench.objects, "get", slowly)
    assert not first.work_once()
    assert outcomes == [True]
    assert office.row(batch_id).total == 3
    run(bench, office, batch_id)
    assert office.counts(batch_id) == ("completed", 3, 0)


def test_what_is_done_so_far_can_be_read_in_the_order_of_the_file(bench: Bench, office: Office) -> None:
    batch_id = office.publish(chat_lines(["hello", "fake:hang", "hello", "fake:refuse"]))
    bench.start()
    bench.until(lambda: office.counts(batch_id) == ("in_progress", 2, 1))
    walked = list(Answers(bench.database, bench.objects, office.row(batch_id)).walk())
    assert [(is_good, json.loads(line)["custom_id"]) for is_good, line in walked] == [
        (True, "line-0"),
        (True, "line-2"),
        (False, "line-3"),
    ]
