"""Ports, addresses and keys: what is chosen, and that what is given wins."""

import random
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker import ports
from stoker.errors import StartError
from stoker.ports import FREE_RANGE, free_port, is_free
from stoker.settings import Settings
from stoker.state import StateFolder
from stoker.surroundings import PREFERRED_PORTS, choose_ports, part_environment


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def settings(folder: Path, **given: str) -> Settings:
    return Settings(home=folder, given=given, inherited={"PATH": "/bin", **given})


def environment(folder: Path, **given: str) -> dict[str, str]:
    state = StateFolder(folder)
    state.prepare()
    ports = {"api": 1, "flower": 2, "redis": 3, "s3": 4}
    return part_environment(settings(folder, **given), state, ports)


def test_a_taken_port_is_not_free(taken_port: int) -> None:
    assert not is_free(taken_port)
    assert free_port(taken_port) != taken_port


def test_a_port_goes_to_the_first_who_asks() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    assert free_port(free) == free
    assert free_port(free) != free  # nobody listens there yet, but somebody will


def test_a_port_that_was_drawn_goes_to_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    first, *others = random.sample(FREE_RANGE, 20)
    drawn = iter([first, first, *others])
    monkeypatch.setattr(random, "choice", lambda _: next(drawn))
    assert free_port() != free_port()


def test_two_servers_never_draw_the_same_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preferred = PREFERRED_PORTS.values()
    monkeypatch.setattr(ports, "claim_port", lambda port: port not in preferred)  # others have them
    asked, *others = random.sample([port for port in FREE_RANGE if port not in preferred], 4)
    drawn = iter([asked, *(port for port in others for _ in range(2))])
    for module in ("ports", "surroundings"):
        monkeypatch.setattr(f"stoker.{module}.is_free", lambda _: True)
    monkeypatch.setattr(random, "choice", lambda _: next(drawn))
    chosen = choose_ports(settings(tmp_path, STOKER_S3_PORT=str(asked)), print)
    assert chosen == {"s3": asked, **dict(zip(["api", "flower", "redis"], others, strict=True))}


def test_a_port_that_was_asked_for_is_never_replaced(tmp_path: Path, taken_port: int) -> None:
    said: list[str] = []
    free = free_port()
    assert choose_ports(settings(tmp_path, STOKER_API_PORT=str(free)), said.append)["api"] == free
    with pytest.raises(StartError, match=f"STOKER_API_PORT is {taken_port}, but something else listens there"):
        choose_ports(settings(tmp_path, STOKER_API_PORT=str(taken_port)), said.append)


@pytest.mark.parametrize("value", ["0", "65536", "-1", "eighty"])
def test_a_port_is_a_number_of_a_port(tmp_path: Path, value: str) -> None:
    with pytest.raises(StartError, match="a port is a number from 1 to 65535"):
        choose_ports(settings(tmp_path, STOKER_FLOWER_PORT=value), print)


def test_everything_is_chosen_when_nothing_is_given(tmp_path: Path) -> None:
    told = environment(tmp_path)
    assert told["STOKER_REDIS_URL"] == f"redis://:{StateFolder(tmp_path).secrets().redis_password}@127.0.0.1:3/0"
    assert told["STOKER_S3_ENDPOINT"] == told["STOKER_S3_PUBLIC_ENDPOINT"] == "http://127.0.0.1:4"
    assert told["STOKER_FLOWER_BASIC_AUTH"].startswith("stoker:")
    assert told["PATH"] == "/bin"
    assert environment(tmp_path)["STOKER_S3_SECRET_KEY"] == told["STOKER_S3_SECRET_KEY"]


def test_a_given_object_store_needs_its_keys(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="STOKER_S3_ACCESS_KEY and STOKER_S3_SECRET_KEY is not"):
        environment(tmp_path, STOKER_S3_ENDPOINT="http://s3")
