"""The consumer side's composition root: `python -m workers --model ALIAS --device DEVICE`, or `--maintenance`."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from schemas.errors import StartError
from schemas.variables import unknown_variables
from storage import versions
from storage.catalog import read_catalog
from storage.database import Database, favor_writers
from storage.objects.s3 import open_bucket
from storage.settings import StorageSettings
from tasks.dispatch import declare_queues
from tasks.logs import configure_logs, get_logger
from tasks.parent import watch_parent
from tasks.settings import TaskSettings
from workers.engines import ENVIRONMENTS, LITTERING
from workers.maintenance import Maintenance
from workers.resident import Resident, find_placement
from workers.scratch import clear_scratch, open_scratch
from workers.settings import WorkerSettings
from workers.stores import Stores

ORPHAN_GRACE_SECONDS = 5.0
"""How long a worker whose supervisor is gone may take to give its jobs back."""

log = get_logger(__name__)


def main(arguments: Sequence[str]) -> int:
    """Run the worker that the command line asks for; return the exit status."""
    options = _parse(arguments)
    configure_logs("maintenance" if options.maintenance else f"worker {options.model}")
    try:
        storage = StorageSettings.read(os.environ)
        settings = TaskSettings.read(os.environ)
        process = WorkerSettings.read(os.environ)
        if process.parent_fd is None and (remark := unknown_variables(os.environ)):  # else the supervisor says it
            log.warning(remark)
        # Redis and the object store went with the supervisor, so there is nothing to drain into.
        watch_parent(process.parent_fd, signal.SIGQUIT, grace_seconds=ORPHAN_GRACE_SECONDS)
        _run(options, storage, settings, process)
    except StartError as error:
        print(error.message, file=sys.stderr)
        return 1
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m workers", description="Run jobs: one model on one device.")
    parser.add_argument("--model", help="the model's alias in the catalog")
    parser.add_argument("--device", default="cpu0", help="one of the model's devices (default: cpu0)")
    parser.add_argument("--maintenance", action="store_true", help="run the reconciler and the sweeps")
    options = parser.parse_args(arguments)
    if options.maintenance == bool(options.model):
        parser.error("say either --model ALIAS or --maintenance")
    return options


def _run(
    options: argparse.Namespace, storage: StorageSettings, settings: TaskSettings, process: WorkerSettings
) -> None:
    catalog = read_catalog(storage.catalog)
    found = None if options.maintenance else find_placement(catalog, options.model, options.device)
    for name, value in (ENVIRONMENTS.get(found[0].engine, {}) if found else {}).items():
        os.environ.setdefault(name, value)
    if found and found[0].engine in LITTERING:
        os.environ["TMPDIR"], shared = open_scratch()
        os.environ.setdefault(
            "TORCHINDUCTOR_CACHE_DIR", f"{shared}/torchinductor_{os.getuid()}"
        )  # for the next one, too
    favor_writers()
    database = Database(storage.database_url)
    database.wait_until_ready(storage.database_wait_seconds, log.warning)
    versions.check(database)
    declare_queues(database, catalog)
    stores = Stores(storage, database, open_bucket(storage))
    if found is None:
        Maintenance(stores, settings, process.ready_file).run()
    else:
        Resident(catalog, found, stores, settings, process).run()
    database.close()


def leave(status: int) -> NoReturn:
    """End this process, and what an engine that was still loading had started."""
    for child in multiprocessing.active_children():
        child.kill()
    clear_scratch()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)  # an engine's libraries may still have threads and seconds of clearing up, which nobody waits for


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
