"""The shim: a foreign program behaves as without it, except that it never outlives the one who asked for it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from stoker.shim import shim_command

SAY_AND_NAP = "import time; print('on', flush=True); time.sleep(600)"


@dataclass
class Parent:
    """The pipe that a supervisor would hold."""

    reader: int
    writer: int

    def die(self) -> None:
        """Close the write end, as the kernel does for the dead."""
        os.close(self.writer)
        self.writer = -1

    def start(self, program: str) -> subprocess.Popen[bytes]:
        """Run a short Python program under the shim."""
        command = shim_command(self.reader, [sys.executable, "-c", program])
        return subprocess.Popen(command, pass_fds=[self.reader], stdout=subprocess.PIPE, start_new_session=True)


@pytest.fixture
def parent() -> Iterator[Parent]:
    pipe = Parent(*os.pipe())
    yield pipe
    os.close(pipe.reader)
    if pipe.writer >= 0:
        os.close(pipe.writer)


def the_child(shim: subprocess.Popen[bytes]) -> psutil.Process:
    """The program under the shim, once it has said a line."""
    assert shim.stdout is not None
    assert shim.stdout.readline()
    (child,) = psutil.Process(shim.pid).children()
    return child


def is_gone(process: psutil.Process) -> bool:
    """Whether it ended; where nobody buries the orphans, a zombie is what is left."""
    try:
        process.wait(60)
    except psutil.TimeoutExpired:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    return True


def test_the_exit_code_is_the_programs(parent: Parent) -> None:
    with parent.start("import sys; sys.exit(7)") as shim:
        assert shim.wait(60) == 7


def test_a_programs_death_by_signal_is_told_as_a_shell_does(parent: Parent) -> None:
    with parent.start("import os; os.kill(os.getpid(), 9)") as shim:
        assert shim.wait(60) == 128 + signal.SIGKILL


def test_a_program_that_is_not_there_is_a_sentence(parent: Parent, capfd: pytest.CaptureFixture[str]) -> None:
    shim = subprocess.run(shim_command(parent.reader, ["/no/such"]), pass_fds=[parent.reader], timeout=60, check=False)
    assert shim.returncode == 127
    assert "/no/such could not be started" in capfd.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_signals_pass_on(parent: Parent, number: signal.Signals) -> None:
    program = f"import signal, sys; signal.signal({int(number)}, lambda *_: sys.exit(42)); {SAY_AND_NAP}"
    with parent.start(program) as shim:
        the_child(shim)
        shim.send_signal(number)
        assert shim.wait(60) == 42


def test_the_program_ends_when_the_parent_does(parent: Parent, tmp_path: Path) -> None:
    said = tmp_path / "said"
    farewell = f"sys.exit(open({str(said)!r}, 'w').write('bye') and 0)"
    program = f"import signal, sys; signal.signal(15, lambda *_: {farewell}); {SAY_AND_NAP}"
    with parent.start(program) as shim:
        the_child(shim)
        parent.die()
        assert shim.wait(60) == 0
        assert said.read_text() == "bye"


def test_a_program_that_will_not_end_is_killed(parent: Parent) -> None:
    with parent.start(f"import signal; signal.signal(15, signal.SIG_IGN); {SAY_AND_NAP}") as shim:
        the_child(shim)
        parent.die()
        assert shim.wait(60) == 128 + signal.SIGKILL


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a child that its parent died")
def test_killing_the_shim_ends_the_program(parent: Parent) -> None:
    with parent.start(SAY_AND_NAP) as shim:
        child = the_child(shim)
        shim.kill()
        assert is_gone(child)


def test_the_program_inherits_nothing_of_the_pipe(parent: Parent) -> None:
    program = "import os, sys; print(*os.listdir('/dev/fd')); print('STOKER_PARENT_FD' in os.environ)"
    with parent.start(program) as shim:
        assert shim.stdout is not None
        open_files, told = shim.stdout.read().decode().splitlines()
        assert str(parent.reader) not in open_files.split()
        assert told == "False"
