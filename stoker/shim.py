"""Runs one foreign program and ends it when the process that asked for it is gone.

Usage: python shim.py FD PROGRAM [ARGUMENT...], where FD is the inherited read end of a pipe whose write end only
the parent holds. Nobody ever writes to it: end of file means that the parent died, however it died.
It is run by path, isolated and without site-packages: cheap, and needs nothing installed.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
GRACE_SECONDS = 5.0
_PR_SET_PDEATHSIG = 1


def shim_command(parent_reader: int, command: list[str]) -> list[str]:
    """The command line that runs `command` under the shim; start it as the leader of a session of its own."""
    return [sys.executable, "-I", "-S", __file__, str(parent_reader), *command]


def main() -> int:
    """Run the program in sys.argv until it ends or the parent does; the exit code is the program's."""
    parent = int(sys.argv[1])
    wake_reader, wake_writer = os.pipe()
    os.set_blocking(wake_writer, False)
    signal.set_wakeup_fd(wake_writer)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    try:
        child = subprocess.Popen(sys.argv[2:], preexec_fn=_dies_with(os.getpid()))  # noqa: PLW1509 - one thread
    except OSError as error:
        print(f"{sys.argv[2]} could not be started: {error}", file=sys.stderr)
        return 127
    for number in FORWARDED:
        signal.signal(number, lambda received, _: child.send_signal(received))
    while child.poll() is None:
        readable, _, _ = select.select([parent, wake_reader], [], [])
        if parent in readable:
            _end(child)
        elif readable:
            os.read(wake_reader, 512)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _dies_with(parent_pid: int) -> Callable[[], None] | None:
    """What the child does before exec so that even a killed shim leaves nothing (Linux only)."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl

    def set_parent_death_signal() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent_pid:  # died between fork and prctl
            os._exit(1)

    return set_parent_death_signal


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(GRACE_SECONDS)
        return
    child.kill()
    child.wait()


if __name__ == "__main__":
    sys.exit(main())
