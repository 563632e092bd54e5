"""When a delivery is tried again, who gets how many places, and what a signature looks like."""

import base64
import time
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from standardwebhooks import Webhook

from schemas.errors import StartError
from tasks.egress import is_success
from tasks.settings import TaskSettings
from tasks.webhooks.receivers import AT_ONCE, EACH_AT_ONCE, SICK_AFTER, SICK_AT_ONCE, Receivers
from tasks.webhooks.schedule import asked_delay, next_delay, read_delays
from tasks.webhooks.signing import sign

DELAYS = read_delays(TaskSettings.model_fields["webhook_delays"].default)


def test_the_schedule_is_the_promised_one() -> None:
    assert list(DELAYS) == [0, 5, 300, 1800, 7200, 18_000, 36_000, 36_000]
    assert [next_delay(DELAYS, tries) for tries in range(1, 9)] == [*DELAYS[1:], None]


def test_those_who_failed_together_come_back_apart_but_not_far() -> None:
    assert next_delay(DELAYS, 1, chance=0.0) == pytest.approx(4)
    assert next_delay(DELAYS, 1, chance=1.0) == pytest.approx(6)


def test_what_a_receiver_asks_for_is_never_undercut_and_never_endless() -> None:
    assert next_delay(DELAYS, 1, 120) == 120
    assert next_delay(DELAYS, 2, 120) == 300
    assert next_delay(DELAYS, 1, 1e9) == 36_000
    assert next_delay(DELAYS, 8, 120) is None


def test_only_a_busy_receiver_is_listened_to() -> None:
    assert [asked_delay(status, "7") for status in (429, 502, 503, 504)] == [7.0] * 4
    assert [asked_delay(status, "7") for status in (None, 200, 400, 500)] == [None] * 4
    assert [asked_delay(503, said) for said in (None, "", "soon", "-1", "\u0663")] == [None] * 5
    later = format_datetime(datetime.fromtimestamp(time.time() + 60, UTC), usegmt=True)
    assert asked_delay(503, later) == pytest.approx(60, abs=5)
    assert asked_delay(503, "Wed, 21 Oct 2015 07:28:00 GMT") == 0


def test_only_2xx_is_success() -> None:
    assert [is_success(status) for status in (200, 204, 299, 199, 300, 301, 404, 500)] == [True] * 3 + [False] * 5


@pytest.mark.parametrize("text", ["", "now", "5,-1", "1;2"])
def test_a_schedule_with_a_slip_stops_the_start(text: str) -> None:
    with pytest.raises(StartError, match="STOKER_WEBHOOK_DELAYS"):
        read_delays(text)


def secret(byte: bytes) -> str:
    return "whsec_" + base64.b64encode(byte * 32).decode()


def test_the_official_library_takes_our_signature_by_either_secret() -> None:
    body = '{"type":"job.succeeded","data":{"text":"\u00fc"}}'.encode()
    headers = sign([secret(b"n"), secret(b"o")], "msg_1", int(time.time()), body)
    for one in (b"n", b"o"):
        assert Webhook(secret(one)).verify(body, headers)["type"] == "job.succeeded"
    assert headers["webhook-signature"].count("v1,") == 2


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def begin(receivers: Receivers, origin: str, count: int) -> None:
    for _ in range(count):
        receivers.begin(origin)


def test_a_receiver_has_few_places_and_a_sick_one_has_one() -> None:
    receivers = Receivers()
    assert receivers.places(["a"]) == {"a": EACH_AT_ONCE}
    begin(receivers, "a", SICK_AFTER)
    assert receivers.places(["a", "b"]) == {"a": EACH_AT_ONCE - SICK_AFTER, "b": EACH_AT_ONCE}
    for _ in range(SICK_AFTER):
        receivers.end("a", took_it=False)
    assert receivers.places(["a"]) == {"a": 1}
    receivers.begin("a")
    assert receivers.places(["a"]) == {}
    receivers.end("a", took_it=True)
    assert receivers.places(["a"]) == {"a": EACH_AT_ONCE}


def test_many_sick_receivers_leave_half_of_the_places_to_the_others() -> None:
    receivers = Receivers()
    sick = [f"sick{number}" for number in range(500)]
    for origin in sick:
        for _ in range(SICK_AFTER):
            receivers.begin(origin)
            receivers.end(origin, took_it=False)
    granted = receivers.places(sick)
    assert sum(granted.values()) == SICK_AT_ONCE
    for origin in granted:
        receivers.begin(origin)
    assert receivers.places([*sick, "well"]) == {"well": EACH_AT_ONCE}


def test_there_are_never_more_on_their_way_than_allowed() -> None:
    receivers = Receivers()
    granted = receivers.places([f"r{number}" for number in range(100)])
    assert sum(granted.values()) == AT_ONCE
    for origin, count in granted.items():
        begin(receivers, origin, count)
    assert receivers.places(["another"]) == {}


def test_who_asks_for_quiet_gets_it() -> None:
    clock = Clock()
    receivers = Receivers(clock)
    receivers.begin("a")
    receivers.end("a", took_it=False, quiet_seconds=30)
    assert receivers.places(["a", "b"]) == {"b": EACH_AT_ONCE}
    clock.now += 31
    assert receivers.places(["a"]) == {"a": EACH_AT_ONCE}
