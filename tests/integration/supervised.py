"""A small project for the supervisor: a fake `producer_api` that tells fake parts, which keep a journal."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from stoker.ports import free_port

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 60.0

PRODUCER = """
import json, os, sys
from pathlib import Path
journal = lambda said: Path("journal").open("a").write(said + "\\n")
command = sys.argv[1:]
if command == ["parts", "--json"]:
    print(Path("parts.json").read_text())
elif command == ["migrate"]:
    journal("migrate")
    sys.exit(Path("refusal").read_text() if Path("refusal").exists() else 0)
elif command == ["keys", "check"]:
    sys.exit(0 if sys.stdin.read() == "sk-valid" else 1)
elif command == ["keys", "ensure", "--name", "local", "--scopes", "submit,read,admin", "--json"]:
    journal("new key")
    print(json.dumps({"key": "sk-valid"}))
else:
    sys.exit(f"unknown command {command}")
"""

PART = """
import http.server, os, signal, subprocess, sys, threading, time
from pathlib import Path
name, *does = sys.argv[1:]
def journal(said):
    with open("journal", "a") as file:
        file.write(f"{name} {said}\\n")
def end(number, frame):
    journal(signal.Signals(number).name)
    if "stubborn" not in does:
        sys.exit(0)
def watch_parent():
    os.read(int(os.environ["STOKER_PARENT_FD"]), 1)
    os._exit(70)
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, end)
if "STOKER_PARENT_FD" in os.environ:
    threading.Thread(target=watch_parent, daemon=True).start()
journal("starts")
print(f"{name} says hello", flush=True)
Path(f"{name}.env").write_text("".join(f"{key}={value}\\n" for key, value in os.environ.items()))
if "child" in does:
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
if "dies" in does:
    sys.exit(3)
if "serves" in does:
    server = http.server.HTTPServer(("127.0.0.1", int(does[-1])), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
if "never" not in does:
    journal("ready")
    Path(os.environ["STOKER_READY_FILE"]).touch()
while True:
    time.sleep(600)
"""


def part(name: str, *does: str, **fields: Any) -> dict[str, Any]:
    """One entry of the table of parts; it is ready by file unless told otherwise."""
    command = ["python", "part.py", name, *does]
    return {"name": name, "command": command, "own": True, "ready": {"kind": "file"}, **fields}


class Project:
    """A folder in which `python -m stoker` can be run, and the processes that it started."""

    def __init__(self, folder: Path, parts: list[dict[str, Any]]) -> None:
        self.folder = folder
        self.state = folder / ".stoker"
        # Given servers, so that most tests start none; `use_real_services` takes them away.
        self.environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "STOKER_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",
            "STOKER_S3_ENDPOINT": f"http://127.0.0.1:{free_port()}",
            "STOKER_S3_ACCESS_KEY": "given-access-key",
            "STOKER_S3_SECRET_KEY": "given-secret-key",
        }
        for name in ("MAKELEVEL", "STOKER_HOME"):
            self.environment.pop(name, None)
        (folder / "producer_api").mkdir()
        (folder / "producer_api/__init__.py").touch()
        (folder / "producer_api/__main__.py").write_text(PRODUCER)
        (folder / "part.py").write_text(PART)
        (folder / "models.toml").write_text('[models.echo]\nkind = "text"\n')
        self.tell_parts(parts)
        self._started: list[subprocess.Popen[str]] = []

    def tell_parts(self, parts: list[dict[str, Any]]) -> None:
        """Change the table of parts."""
        (self.folder / "parts.json").write_text(json.dumps({"parts": parts}))

    def use_real_services(self) -> None:
        """Let the supervisor start Redis and S3 itself."""
        for name in ("STOKER_REDIS_URL", "STOKER_S3_ENDPOINT", "STOKER_S3_ACCESS_KEY", "STOKER_S3_SECRET_KEY"):
            del self.environment[name]

    def start(self, *arguments: str, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        """Start `python -m stoker …` as the leader of a process group, as a shell does."""
        with (self.folder / "output").open("wb") as output:
            process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "stoker", *arguments],
                cwd=self.folder,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                text=True,
            )
        self._started.append(process)
        return process

    def up(self, *, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        """Start `up` in the foreground and wait until everything is ready."""
        process = self.start("up", prefix=prefix)
        self.wait_for_output("Everything is ready", process)
        return process

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `python -m stoker …` to its end."""
        return subprocess.run(
            [sys.executable, "-m", "stoker", *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )

    @property
    def output(self) -> str:
        """What the command that was started last has said so far."""
        return (self.folder / "output").read_text()

    @property
    def journal(self) -> list[str]:
        """What the parts have noted so far."""
        return (self.folder / "journal").read_text().splitlines()

    def seen_environment(self, name: str) -> dict[str, str]:
        """The environment that a part was given."""
        return dict(line.split("=", 1) for line in (self.folder / f"{name}.env").read_text().splitlines())

    def run(self) -> dict[str, Any]:
        """What the supervisor says about itself."""
        run: dict[str, Any] = json.loads((self.state / "run.json").read_text())
        return run

    def processes(self) -> list[psutil.Process]:
        """Every living process that works in this folder."""
        return [process for process in psutil.process_iter() if _works_in(self.folder, process)]

    def wait_for_output(self, text: str, process: subprocess.Popen[str]) -> None:
        """Wait until the output has this text; a process that ends before fails the test."""
        self.wait_until(lambda: text in self.output, process)

    def wait_until(self, is_so: Callable[[], bool], process: subprocess.Popen[str]) -> None:
        """Wait until something is so; a process that ends before fails the test."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not is_so():
            assert process.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.02)

    def wait_until_empty(self) -> None:
        """Wait until no process is left in this folder."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while left := self.processes():
            assert time.monotonic() < deadline, left
            time.sleep(0.02)

    def clean(self) -> None:
        """End whatever the test left running, so that the next test begins with nothing."""
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        for started in self._started:
            started.wait(PATIENCE_SECONDS)


def interrupt(process: subprocess.Popen[str]) -> None:
    """Press Ctrl-C: the whole process group of the terminal gets it."""
    os.killpg(process.pid, signal.SIGINT)


def _works_in(folder: Path, process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()).is_relative_to(folder)
    return False


@contextlib.contextmanager
def project(folder: Path, *parts: dict[str, Any]) -> Iterator[Project]:
    """A project with these parts, cleaned up after the test."""
    made = Project(folder, list(parts))
    try:
        yield made
    finally:
        made.clean()
