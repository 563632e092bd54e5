"""How long a dead part rests, and when its keeper gives up."""

import asyncio
import io
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from stoker import keeper
from stoker.console import Console
from stoker.errors import StartError
from stoker.keeper import Keeper, Surroundings, next_delay
from stoker.parts import Part, Ready

SAY_READY = ': > "$STOKER_READY_FILE"'


def test_the_delay_doubles_to_its_limit() -> None:
    delays = [0.0]
    for _ in range(7):
        delays.append(next_delay(delays[-1], ready_seconds=1))
    assert delays[1:] == [0.5, 1, 2, 4, 8, 10, 10]


def test_a_part_that_was_well_for_a_while_begins_anew() -> None:
    assert next_delay(10, ready_seconds=29) == 10
    assert next_delay(10, ready_seconds=30) == 0.5


class Kept:
    """Keepers of one short program for the shell, and what became of it."""

    def __init__(self, folder: Path, surroundings: Surroundings) -> None:
        self.said = io.StringIO()
        self.console = Console(folder, self.said)
        self.states: list[str] = []
        self._ready_file = folder / "ready"
        self._surroundings = surroundings

    def keeper(self, *command: str, start_seconds: float = 10) -> Keeper:
        """Keep this command, in a shell when it is only a program text: that starts at once."""
        words = list(command) if len(command) > 1 else ["sh", "-c", *command]
        part = Part("part", words, Ready("file"), own=True, start_seconds=start_seconds)
        return Keeper(part, self._surroundings, self.console, ready_file=self._ready_file, on_change=self._note)

    async def until_ready(self, program: str, times: int, *, start_seconds: float = 10) -> None:
        """Keep the program running until it was ready so often, then stop it."""
        kept = self.keeper(program, start_seconds=start_seconds)
        task = asyncio.create_task(kept.keep_running())
        while self.states.count("ready") < times:
            assert not task.done()
            await asyncio.sleep(0.01)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await kept.stop()

    def _note(self, part: str, state: str) -> None:
        self.states.append(state)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    """What keeps, in a hurry."""
    monkeypatch.setattr(keeper, "FIRST_DELAY_SECONDS", 0.001)
    monkeypatch.setattr(keeper, "POLL_SECONDS", 0.01)
    reader, writer = os.pipe()
    made = Kept(tmp_path, Surroundings(dict(os.environ), {}, {}, reader, writer))
    with made.console:
        yield made
    os.close(reader)
    os.close(writer)


async def test_five_deaths_before_ready_are_enough(kept: Kept) -> None:
    sentence = "was started 5 times and never got ready; the last time it ended with exit code 1"
    with pytest.raises(StartError, match=sentence) as failure:
        await kept.keeper("echo no model here; exit 1").keep_running()
    assert str(failure.value).count("no model here") == 5
    assert kept.states == ["starting", "restarting"] * 4 + ["starting"]


async def test_a_program_that_is_not_there_counts_as_a_death(kept: Kept) -> None:
    with pytest.raises(StartError, match="never got ready; the last time it could not be started"):
        await kept.keeper("/no/such/program", "--at-all").keep_running()


async def test_a_part_that_was_ready_once_is_started_again_for_ever(kept: Kept) -> None:
    await kept.until_ready(SAY_READY + "; sleep 0.05; exit 3", times=7)
    assert "part ended with exit code 3; starting it again in" in kept.said.getvalue()


async def test_a_part_that_takes_its_time_is_said_to_be_starting(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "REMIND_SECONDS", 0.05)
    slow = kept.keeper("exec sleep 600", start_seconds=0.5)
    with pytest.raises(StartError, match=r"was not ready within 0\.5 s"):
        await slow.keep_running()
    await slow.stop()
    assert "part is still starting (0 s)\n" in kept.said.getvalue()


async def test_a_restart_that_hangs_is_killed_and_tried_again(
    kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "starts").mkdir()
    monkeypatch.chdir(tmp_path / "starts")
    hang_at_the_second = "n=$(ls | wc -l); : > $n; [ $n -eq 1 ] && exec sleep 600"
    end_at_the_first = "[ $n -eq 0 ] && exec sleep 0.1; exec sleep 600"
    await kept.until_ready(f"{hang_at_the_second}; {SAY_READY}; {end_at_the_first}", times=2, start_seconds=0.5)
    assert kept.said.getvalue().count("part was not ready within 0.5 s\n") == 1
    assert "part ended by SIGKILL; starting it again" in kept.said.getvalue()
    assert kept.states[-1] == "stopping"


async def test_what_a_part_had_started_may_clear_up_after_it(kept: Kept, tmp_path: Path) -> None:
    await kept.until_ready(f"(sleep 0.2; : > {tmp_path}/cleared) & {SAY_READY}; exec sleep 0.05", times=2)
    assert (tmp_path / "cleared").exists()
