"""A folder of a worker's own for temporary files: what an engine's libraries leave there goes with the worker."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

PREFIX = "stoker-"  # short: paths of sockets have a hundred characters at most
MARK = ".of-a-worker"
"""A file in each such folder, so that nobody else's is ever removed."""


def open_scratch() -> tuple[str, str]:
    """Make the folder and use it from here on; return it, and the one before it, which others share."""
    shared = tempfile.gettempdir()
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    (folder / MARK).touch()
    tempfile.tempdir = str(folder)
    return str(folder), shared


def clear_scratch() -> None:
    """Remove the folder with all that is in it, where this process or its parent made one."""
    folder = Path(tempfile.gettempdir())
    if (folder / MARK).exists():
        shutil.rmtree(folder, ignore_errors=True)
