"""The whole platform as a user starts it, in a state folder and on ports of its own."""

import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil

from stoker.state import Run, StateFolder

ROOT = Path(__file__).parents[2]
CATALOG = ROOT / "tests" / "models.toml"
DEMO_CATALOG = ROOT / "models.toml"
START_SECONDS = 180.0
PATIENCE_SECONDS = 60.0


class Platform:
    """One `stoker up --detach`."""

    def __init__(self, home: Path, catalog: Path = CATALOG) -> None:
        self.state = StateFolder(home)
        self.said = ""
        """What the last start said."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("STOKER_")}
        # A short lease, so that tests that kill workers need not wait long.
        chosen = {"STOKER_HOME": str(home), "STOKER_CATALOG": str(catalog), "STOKER_LEASE_SECONDS": "2"}
        self.environment = own | chosen

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `python -m stoker …` to its end."""
        return subprocess.run(
            [sys.executable, "-m", "stoker", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=False,
        )

    def up(self) -> None:
        """Start everything."""
        started = self.call("up", "--detach")
        assert started.returncode == 0, started.stdout + started.stderr
        self.said = started.stdout

    @property
    def is_running(self) -> bool:
        """Whether a supervisor runs here."""
        return self.state.read_run() is not None

    @property
    def run(self) -> Run:
        """What the supervisor says about itself."""
        run = self.state.read_run()
        assert run is not None
        return run

    @property
    def client(self) -> dict[str, str]:
        """What client.env says."""
        return self.state.read_client()

    def http(self) -> httpx.Client:
        """A client with the key of client.env."""
        told = self.client
        headers = {"Authorization": f"Bearer {told['STOKER_API_KEY']}"}
        return httpx.Client(base_url=told["STOKER_URL"], headers=headers, timeout=PATIENCE_SECONDS)

    def processes(self) -> list[psutil.Process]:
        """The supervisor and everything below it."""
        supervisor = psutil.Process(self.run.pid)
        return [supervisor, *supervisor.children(recursive=True)]

    def part_processes(self, *words: str) -> list[psutil.Process]:
        """Those whose command line has these words."""
        return [process for process in self.processes() if set(words) <= set(process.cmdline())]


def wait_until_gone(processes: list[psutil.Process]) -> None:
    """Wait until each of them has ended; where nobody buries the orphans, a zombie has ended, too."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while left := [process for process in processes if _lives(process)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
