"""What vLLM loads into each process that it starts: it ends with its parent, leaves signals to it, tells no inputs.

vLLM finds `install` as an entry point of the group `vllm.general_plugins`; the folder `entry_points/` beside this
module holds the metadata of a distribution that has nothing else in it.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
from pathlib import Path

from workers.engines.seeds import mend_generators
from workers.scratch import clear_scratch

ORPHAN_EXIT_CODE = 70
DUMP = "vllm.logging_utils.dump_input"
"""Where vLLM says on its deathbed what it was doing, with the schemas and stop strings of callers."""
METADATA = Path(__file__).parent / "entry_points"


def announce() -> None:
    """Have vLLM find the entry point, in this process and in those that it starts."""
    if str(METADATA) not in sys.path:
        sys.path.append(str(METADATA))


def install() -> None:
    """Tie this process to its parent and mend it; vLLM calls this in each of its processes, maybe more than once."""
    logging.getLogger(DUMP).setLevel(logging.CRITICAL)
    parent = multiprocessing.parent_process()
    if parent is None or any(thread.name == "parent-watch" for thread in threading.enumerate()):
        return
    mend_generators()
    threading.Thread(target=_watch, args=(parent,), name="parent-watch", daemon=True).start()
    # A signal to the whole group is for the worker, which drains and kills this process when nothing runs any more;
    # taken here as well it would cut answers short.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)


def _watch(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()  # returns when the parent is gone, however it died
    if parent.name == "MainProcess":  # a worker, and killed: one that ends by itself clears up after itself
        clear_scratch()
    os._exit(ORPHAN_EXIT_CODE)
