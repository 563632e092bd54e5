"""`stoker down` and `stoker status`: what a second process can do about a running supervisor."""

import contextlib
import os
import signal

from stoker.settings import Settings
from stoker.state import SUPERVISOR_LOCK, StateFolder

# Longer than the longest grace of a part; after that, the second signal kills what is left.
POLITE_SECONDS = 90.0
KILL_SECONDS = 10.0


def down(settings: Settings) -> int:
    """Stop the supervisor of this state folder and wait until it is gone."""
    state = StateFolder(settings.home)
    run = state.read_run()
    if run is None:
        print(f"Stoker is not running in {state.shown}.")
        return 0
    print(f"Stopping Stoker (process {run.pid}).", flush=True)
    for seconds in (POLITE_SECONDS, KILL_SECONDS):
        with contextlib.suppress(ProcessLookupError):
            os.kill(run.pid, signal.SIGTERM)
        if not state.is_locked(SUPERVISOR_LOCK, wait_seconds=seconds):
            print("Stopped.")
            return 0
    print(f"Process {run.pid} does not stop. Its log is {state.shown / 'logs' / 'stoker.log'}.")
    return 1


def status(settings: Settings) -> int:
    """Say whether Stoker runs here and what its parts do; 0 when all of them are ready."""
    state = StateFolder(settings.home)
    run = state.read_run()
    if run is None:
        print(f"Stoker is not running in {state.shown}. Start it with `make up`.")
        return 1
    print(f"Stoker runs in {state.shown}: {run.url} (process {run.pid})")
    width = max(map(len, run.parts), default=0)
    for name, does in run.parts.items():
        print(f"  {name:<{width}}  {does}")
    return 0 if set(run.parts.values()) == {"ready"} else 1
