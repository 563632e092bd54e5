"""The state folder: data, logs, secrets, who runs here and how clients reach it."""

import contextlib
import fcntl
import json
import os
import secrets
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from stoker.settings import read_exports, write_exports

# Held by the supervisor for as long as it lives.
SUPERVISOR_LOCK = "lock"
# Held by every process that a supervisor started: it is free when the last of them is gone, even after a kill -9.
PARTS_LOCK = "parts.lock"


@dataclass(frozen=True)
class Run:
    """What the running supervisor says about itself."""

    pid: int
    started_at: float
    url: str
    ports: dict[str, int]
    parts: dict[str, str]


@dataclass(frozen=True, repr=False)
class Secrets:
    """What is generated once and kept."""

    s3_access_key: str
    s3_secret_key: str
    flower_password: str
    redis_password: str


class StateFolder:
    """Everything that one installation keeps between and during runs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = path / "data"
        self.logs = path / "logs"

    @property
    def shown(self) -> Path:
        """The folder as a person in the current directory would write it."""
        here = Path.cwd()
        return self.path.relative_to(here) if self.path.is_relative_to(here) else self.path

    def prepare(self) -> None:
        """Make the folders that are missing."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (self.data, self.logs, self.path / "ready"):
            folder.mkdir(exist_ok=True)

    def ready_file(self, part: str) -> Path:
        """The file by which a part says that it is ready."""
        return self.path / "ready" / part

    def lock(self, name: str, wait_seconds: float = 0.0) -> int | None:
        """An open descriptor that holds the lock for as long as any process has it, or None when it is taken."""
        descriptor = os.open(self.path / name, os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + wait_seconds
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    os.close(descriptor)
                    return None
                time.sleep(0.05)
            else:
                return descriptor

    def is_locked(self, name: str = SUPERVISOR_LOCK, wait_seconds: float = 0.0) -> bool:
        """Whether a living process holds the lock, and still does after so many seconds."""
        if not (self.path / name).exists():
            return False
        descriptor = self.lock(name, wait_seconds)
        if descriptor is not None:
            os.close(descriptor)
        return descriptor is None

    def read_run(self) -> Run | None:
        """What the running supervisor wrote about itself, or None when none runs."""
        if not self.is_locked():  # what a killed one left behind names a process id that may be another's by now
            return None
        try:
            return Run(**json.loads((self.path / "run.json").read_text()))
        except FileNotFoundError:
            return None

    def write_run(self, run: Run | None) -> None:
        """Say who runs here, or with None that nobody does; a full disk leaves what was said before."""
        if run is None:
            (self.path / "run.json").unlink(missing_ok=True)
            return
        with contextlib.suppress(OSError):  # the platform must not stop because nobody can be told
            write_private(self.path / "run.json", json.dumps(asdict(run), indent=1))

    def secrets(self) -> Secrets:
        """The secrets, each generated when it is first asked for: an older folder lacks some, a newer one has more."""
        file = self.path / "secrets"
        kept = json.loads(file.read_text()) if file.exists() else {}
        fresh = Secrets(secrets.token_hex(10), secrets.token_hex(20), secrets.token_urlsafe(12), secrets.token_hex(20))
        whole = {**asdict(fresh), **kept}
        if whole != kept:
            write_private(file, json.dumps(whole))
        return Secrets(**{field.name: whole[field.name] for field in fields(Secrets)})

    def read_client(self) -> dict[str, str]:
        """What client.env says, or nothing."""
        try:
            return read_exports((self.path / "client.env").read_text())
        except FileNotFoundError:
            return {}

    def write_client(self, variables: dict[str, str]) -> None:
        """Tell clients where the API is and what key opens it."""
        write_private(self.path / "client.env", write_exports(variables))


def write_private(path: Path, text: str) -> None:
    """Write a file that nobody else can read, whole or not at all."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)
