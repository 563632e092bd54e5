"""The way out, tried on real sockets: the ways around a guard that others have found, TLS, and bounds."""

import asyncio
import ipaddress
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from schemas.errors import StartError, UrlRefusedError
from tasks.addresses import Address, Rules
from tasks.egress import Egress, UnreachableError
from tests.certificates import Authority, make_authority
from tests.receiver import Receiver, answer, run_receiver

LOOPBACK = "127.0.0.0/8"
METADATA = "http://169.254.169.254/latest/meta-data"
ANY = "0.0.0.0"  # noqa: S104 - nobody listens there; a request to it reaches this machine


def look_up(*answers: str) -> "Names":
    return Names([ipaddress.ip_address(one) for one in answers])


class Names:
    """A DNS that gives each answer once, one after the other, and counts how often it is asked."""

    def __init__(self, answers: Sequence[Address]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self, _host: str, _port: int) -> Sequence[Address]:
        self.asked += 1
        return [self.answers[min(self.asked, len(self.answers)) - 1]]


@asynccontextmanager
async def egress(allow: str = "", names: Names | None = None, ca: Authority | None = None) -> AsyncIterator[Egress]:
    rules = Rules.read(allow, "1-65535", https_only=False)
    made = Egress(rules, ca_file=str(ca.file) if ca else None, resolve=names)
    try:
        yield made
    finally:
        await made.aclose()


async def post(out: Egress, url: str, seconds: float = 5) -> int:
    target = out.rules.check(url)
    return (await out.send("POST", target, {}, b"{}", seconds=seconds, max_bytes=1000)).status


def test_authorities_that_cannot_be_read_stop_the_start(tmp_path: Path) -> None:
    for said in (None, "these are no certificates"):
        file = tmp_path / "authorities.pem"
        if said:
            file.write_text(said)
        with pytest.raises(StartError, match=f"^STOKER_EGRESS_CA_FILE names {file}, which holds no certificates"):
            Egress(Rules(), ca_file=str(file))


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with run_receiver() as running:
        yield running


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "localhost", "localhost.", "LOCALHOST", "2130706433", "0x7f000001", "0x7f.1", "017700000001",
        "127.1", "0", ANY, "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:7f00:1]",
        "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[::1%25lo]", "user@127.0.0.1", "example.com@127.0.0.1",
        "\uff11\uff12\uff17.0.0.1", "\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3", "127.127.127.127",
    ],
)  # fmt: skip
async def test_no_writing_of_this_machine_reaches_it(receiver: Receiver, host: str) -> None:
    async with egress() as out:
        with pytest.raises(UrlRefusedError):
            await post(out, f"http://{host}:{receiver.port}/")
    assert receiver.connections == 0


async def test_a_name_that_changes_its_answer_after_the_check_gains_nothing(receiver: Receiver) -> None:
    names = look_up("192.0.2.1", "127.0.0.1")
    async with egress(names=names) as out:
        target = out.rules.check(f"http://rebind.example:{receiver.port}/")
        for _ in range(2):
            with pytest.raises(UrlRefusedError):
                await out.send("POST", target, {}, b"", seconds=2, max_bytes=10)
    assert (receiver.connections, names.asked) == (0, 2)


async def test_a_name_is_looked_up_once_for_check_and_connection(receiver: Receiver) -> None:
    names = look_up("127.0.0.1", "169.254.169.254")
    async with egress(LOOPBACK, names) as out:
        assert await post(out, f"http://once.example:{receiver.port}/") == 200
    assert names.asked == 1
    assert receiver.received[0].headers["host"] == f"once.example:{receiver.port}"


async def test_a_redirect_is_an_answer_and_nothing_else(receiver: Receiver) -> None:
    receiver.reply = lambda _: answer(302, Location=METADATA)
    async with egress(LOOPBACK) as out:
        assert await post(out, receiver.url) == 302
        with pytest.raises(UnreachableError, match="redirects are not followed"):
            await out.fetch(receiver.url, seconds=5, max_bytes=100)
    assert len(receiver.received) == 2


async def test_proxies_of_the_environment_are_unknown(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, receiver.url)
    async with egress(names=look_up("192.0.2.1")) as out:
        with pytest.raises(UrlRefusedError):
            await post(out, "http://internal.example/")
    assert receiver.connections == 0


async def test_an_owner_reaches_his_own_network_and_no_other(receiver: Receiver) -> None:
    async with egress(LOOPBACK) as out:
        assert await post(out, receiver.url) == 200
        with pytest.raises(UrlRefusedError):
            await post(out, METADATA)


async def test_what_hangs_or_trickles_is_given_up_in_time(receiver: Receiver) -> None:
    async with egress(LOOPBACK) as out:
        receiver.reply = lambda _: None
        began_at = time.monotonic()
        with pytest.raises(UnreachableError, match=r"within 0\.3 seconds"):
            await post(out, receiver.url, seconds=0.3)
        receiver.reply = lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nx"
        with pytest.raises(UnreachableError, match=r"within 0\.3 seconds"):
            await post(out, receiver.url, seconds=0.3)
        assert time.monotonic() - began_at < 20


async def test_no_more_is_read_than_was_asked_for(receiver: Receiver) -> None:
    receiver.reply = lambda _: answer(200, b"x" * 5_000_000)
    async with egress(LOOPBACK) as out:
        target = out.rules.check(receiver.url)
        reply = await out.send("GET", target, {}, seconds=5, max_bytes=100)
        assert (len(reply.body), reply.is_whole) == (100, False)
        with pytest.raises(UnreachableError, match="larger than 100 bytes"):
            await out.fetch(receiver.url, seconds=5, max_bytes=100)
        receiver.reply = lambda _: answer(200, b"whole")
        assert (await out.fetch(receiver.url, seconds=5, max_bytes=5)).body == b"whole"


@pytest.mark.parametrize("said", [b"SSH-2.0-OpenSSH_9\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\x00" * 300_000])
async def test_what_is_no_http_is_told_apart(receiver: Receiver, said: bytes) -> None:
    receiver.reply = lambda _: said
    async with egress(LOOPBACK) as out:
        with pytest.raises(UnreachableError):
            await post(out, receiver.url)


async def test_nobody_there_and_a_hang_up_are_reasons(receiver: Receiver) -> None:
    async with egress(LOOPBACK) as out:
        receiver.hangs_up = True
        with pytest.raises(UnreachableError):
            await post(out, receiver.url)
        with pytest.raises(UnreachableError, match="connection failed"):
            await post(out, "http://127.0.0.1:1/")


async def test_connections_are_kept_for_the_next_request(receiver: Receiver) -> None:
    async with egress(LOOPBACK) as out:
        for _ in range(5):
            await post(out, receiver.url)
    assert (len(receiver.received), receiver.connections) == (5, 1)


async def test_certificates_are_verified_for_the_name_and_not_for_the_address(tmp_path: Path) -> None:
    ours, strangers = make_authority(tmp_path / "ours"), make_authority(tmp_path / "strangers")
    here = look_up("127.0.0.1")
    async with run_receiver(tls=ours.serve_as("hooks.example")) as receiver:
        good, other = (f"https://{name}.example:{receiver.port}/" for name in ("hooks", "other"))
        async with egress(LOOPBACK, here, ours) as out:
            assert await post(out, good) == 200
            with pytest.raises(UnreachableError, match="certificate"):
                await post(out, other)
        async with egress(LOOPBACK, here, strangers) as out:
            with pytest.raises(UnreachableError, match="certificate"):
                await post(out, good)
    late = ours.serve_as("late.example", days=0)
    async with run_receiver(tls=late) as receiver, egress(LOOPBACK, here, ours) as out:
        with pytest.raises(UnreachableError, match="expired"):
            await post(out, f"https://late.example:{receiver.port}/")
    assert receiver.received == []


async def test_many_origins_are_served_side_by_side(receiver: Receiver) -> None:
    names = look_up("127.0.0.1")
    async with egress(LOOPBACK, names) as out:
        urls = [f"http://host{number}.example:{receiver.port}/" for number in range(300)]
        assert set(await asyncio.gather(*(post(out, url, seconds=30) for url in urls))) == {200}
        for url in urls:
            await post(out, url)
    assert len(receiver.received) == 600
    assert receiver.connections > 300, "connections that nobody used for long are given up"
