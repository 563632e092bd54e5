"""A job's events over connections that break: nothing lost, nothing twice, nothing of an attempt that is void."""

import httpx
import pytest

from stoker import Stoker, StokerError, Transcript
from stoker.client import NotFoundError, UnreachableError, event_feed
from stoker.client.event_feed import EventFeed
from stoker.client.exchange import Call
from tests.scripted_api import CUT, Reply, ScriptedApi, error, frame

EVENTS = "/v1/jobs/job_1/events"
STARTED = frame(1, 1, "started")
DONE = frame(1, 5, "finished", status="succeeded", error=None)


def word(seq: int, text: str, attempt: int = 1) -> bytes:
    return frame(attempt, seq, "token", text=text)


def stream(*frames: bytes, cut: bool = False) -> Reply:
    return Reply(200, b"retry: 1000\n\n" + b"".join(frames), {"Content-Type": "text/event-stream"}, is_cut=cut)


def ids(client: Stoker, after: str | None = None) -> list[str]:
    return [event.id for event in client.events("job_1", after)]


def last_event_ids(api: ScriptedApi) -> list[str | None]:
    return [seen.headers.get("last-event-id") for seen in api.asked(EVENTS)]


def test_events_come_in_order_with_their_data(api: ScriptedApi, client: Stoker) -> None:
    api.on("GET", EVENTS, stream(STARTED, b": heartbeat\n\n", word(2, "Hel"), word(3, "lo"), DONE))
    events = list(client.events("job_1"))
    assert [event.type for event in events] == ["started", "token", "token", "finished"]
    assert (events[1].data, events[1].at, events[1].id) == ({"text": "Hel"}, 1.5, "1-2")
    assert api.seen[0].headers["authorization"] == "Bearer sk-test"


def test_a_cut_stream_goes_on_after_the_last_event(api: ScriptedApi, client: Stoker) -> None:
    half = word(3, "never seen whole")[:-9]
    api.on("GET", EVENTS, stream(STARTED, word(2, "a"), half, cut=True), CUT, stream(word(3, "b"), DONE))
    assert ids(client) == ["1-1", "1-2", "1-3", "1-5"]
    assert last_event_ids(api) == [None, "1-2", "1-2"]


def test_a_stream_that_ends_before_the_job_goes_on(api: ScriptedApi, client: Stoker) -> None:
    api.on("GET", EVENTS, stream(STARTED), error(503, "unavailable", "Restarting.", Retry_After="0"), stream(DONE))
    assert ids(client) == ["1-1", "1-5"]


def test_what_comes_twice_or_of_an_older_attempt_is_dropped(api: ScriptedApi, client: Stoker) -> None:
    again = frame(2, 1, "restarted")
    new, end = word(2, "b", attempt=2), frame(2, 3, "finished", status="succeeded")
    first = stream(STARTED, STARTED, word(2, "a"), again, word(3, "late"), new, cut=True)
    api.on("GET", EVENTS, first, stream(new, end))
    assert ids(client) == ["1-1", "1-2", "2-1", "2-2", "2-3"]


def test_a_reader_may_begin_anywhere(api: ScriptedApi, client: Stoker) -> None:
    api.on("GET", EVENTS, stream(DONE))
    assert ids(client, after="1-4") == ["1-5"]
    assert last_event_ids(api) == ["1-4"]


def test_one_who_has_seen_all_gets_nothing(api: ScriptedApi, client: Stoker) -> None:
    api.on("GET", EVENTS, Reply(204))
    assert ids(client, after="1-5") == []


def test_text_with_strange_line_ends_stays_one_event(api: ScriptedApi, client: Stoker) -> None:
    odd = "a\u2028b\x85c\x0bd"
    api.on("GET", EVENTS, stream(word(1, odd), DONE))
    assert [event.data.get("text") for event in client.events("job_1")] == [odd, None]


def test_characters_that_are_cut_on_their_way_are_whole_again() -> None:
    told = "안녕 👩‍👩‍👧 한글 🇰🇷"
    feed = EventFeed(Call("GET", "http://127.0.0.1:1/"), None, patience_seconds=1)
    body = STARTED + word(2, told) + frame(1, 3, "tool_call", index=0, arguments=told) + DONE
    events = [event for number in range(len(body)) for event in feed.read(body[number : number + 1])]
    assert [event.data.get("text", event.data.get("arguments")) for event in events] == [None, told, told, None]


def test_a_job_that_is_not_there_ends_the_reading(api: ScriptedApi, client: Stoker) -> None:
    api.on("GET", EVENTS, stream(STARTED, cut=True), error(404, "not_found", "There is no job 'job_1' of yours."))
    events = client.events("job_1")
    assert next(events).type == "started"
    with pytest.raises(NotFoundError, match="no job 'job_1'"):
        next(events)


def test_patience_ends_when_nothing_comes(api: ScriptedApi, impatient: Stoker) -> None:
    api.on("GET", EVENTS, CUT)
    with pytest.raises(UnreachableError, match="broke"):
        ids(impatient)
    assert len(api.seen) == 1


def test_connections_that_last_may_break_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    feed = EventFeed(Call("GET", "http://127.0.0.1:1/"), None, patience_seconds=1)

    def connect_often() -> None:
        for _ in range(20):
            assert feed.is_open(httpx.Response(200))
            feed.broke()

    monkeypatch.setattr(event_feed, "LASTING_SECONDS", 0)
    connect_often()
    monkeypatch.undo()
    with pytest.raises(UnreachableError):
        connect_often()


def test_a_wrong_event_id_is_told_before_anything_is_asked(api: ScriptedApi, client: Stoker) -> None:
    with pytest.raises(StokerError, match="'yesterday' is not an event's id"):
        ids(client, after="yesterday")
    assert api.seen == []


def test_a_transcript_forgets_what_is_void(api: ScriptedApi, client: Stoker) -> None:
    half = frame(1, 3, "progress", fraction=0.5, stage="draw")
    again, end = frame(2, 1, "restarted"), frame(2, 3, "finished", status="succeeded")
    api.on("GET", EVENTS, stream(STARTED, word(2, "void"), half, again, word(2, "new", attempt=2), end))
    transcript, shown = Transcript(), []
    for event in client.events("job_1"):
        transcript.add(event)
        shown.append((transcript.text, transcript.fraction))
    assert shown == [("", None), ("void", None), ("void", 0.5), ("", None), ("new", None), ("new", None)]


def test_a_snapshot_stands_for_all_before_it(api: ScriptedApi, client: Stoker) -> None:
    api.on(
        "GET", EVENTS, stream(frame(1, 600, "snapshot", text="long story"), word(601, "!"), frame(1, 602, "finished"))
    )
    transcript = Transcript()
    for event in client.events("job_1"):
        transcript.add(event)
    assert transcript.text == "long story!"
