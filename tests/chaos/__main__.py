"""`python -m tests.chaos`: break a whole platform on purpose and count what its callers saw.

Without more it has thousands of jobs of every kind on the fake engine; `--model chat` and
`--model sketch` have the real engines for text and images, `--model batch` runs batches on the fake one.
The exit code is 0 only when every count is what it must be. The seed is printed first and the counts last.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from tests.chaos.batches import BATCH_STRIKES, run_batches
from tests.chaos.chat import STRIKES, run_chat
from tests.chaos.faults import FAULTS
from tests.chaos.image import IMAGE_STRIKES, run_image
from tests.chaos.run import Options, Report, run

EVIDENCE = 10
DEFAULTS = {"fake": 2000, "chat": 100, "sketch": 100, "batch": 16_000}
KNOWN = {"fake": list(FAULTS), "chat": list(STRIKES), "sketch": list(IMAGE_STRIKES), "batch": list(BATCH_STRIKES)}
RUNS = {"fake": run, "chat": run_chat, "sketch": run_image, "batch": run_batches}


def read_options(arguments: list[str]) -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description="Break a whole platform on purpose and count what its callers saw."
    )
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1, 10_000))
    parser.add_argument("--jobs", type=int, help="at least so many (default: 2000, of real models 100, lines 16000)")
    parser.add_argument("--db", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--model", choices=list(DEFAULTS), default="fake")
    parser.add_argument("--faults", default="", help=f"default: all: {'; '.join(map(', '.join, KNOWN.values()))}")
    given = parser.parse_args(arguments)
    known = KNOWN[given.model]
    faults = [name for name in given.faults.split(",") if name] or known
    if unknown := [name for name in faults if name not in known]:
        parser.error(f"there is no fault {', '.join(unknown)}; choose from {', '.join(known)}")
    return Options(given.seed, given.jobs or DEFAULTS[given.model], given.db, faults, given.model)


def render(report: Report) -> str:
    """Return the evidence and, last, the counts."""
    lines = []
    for name, sentences in report.violations.items():
        lines += [f"  {name}: {sentence}" for sentence in sentences[:EVIDENCE]]
        if len(sentences) > EVIDENCE:
            lines.append(f"  {name}: and {len(sentences) - EVIDENCE} more")
    lines.append(
        f"slowest recovery: next finish after {_slowest(one.flow_seconds for one in report.aftermaths)}, all that ran "
        f"ended or moved after {_slowest(one.moved_seconds for one in report.aftermaths)}"
    )
    lines.append("ended: " + ", ".join(f"{number} {status}" for status, number in sorted(report.statuses.items())))
    lines.append(f"accepted: {report.accepted}")
    lines += [f"{name}: {len(sentences)}" for name, sentences in report.violations.items()]
    return "\n".join(lines)


def _slowest(seconds: Iterable[float | None]) -> str:
    known = [float("inf") if one is None else one for one in seconds]
    return f"{max(known, default=0):.1f} s"


def main() -> int:
    """Run, print, judge."""
    options = read_options(sys.argv[1:])
    began_at = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began_at:6.1f}] {text}", flush=True)

    print(f"seed {options.seed}, {options.jobs} jobs, {options.db}, faults {','.join(options.faults)}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="stoker-chaos-"))
    report = Report()
    try:
        report = asyncio.run(RUNS[options.model](options, folder, say))
    except KeyboardInterrupt:
        return 130
    finally:
        if report.has_passed:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            print(f"the logs of all parts are in {folder}/logs", flush=True)
    print(render(report))
    return 0 if report.has_passed else 1


if __name__ == "__main__":
    sys.exit(main())
