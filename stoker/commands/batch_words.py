"""What can be typed after `stoker batch`."""

from __future__ import annotations

import argparse
from pathlib import Path

from stoker.commands.options import add_command, pair, seconds

STEERING = (
    ("get", "look at a batch"),
    ("cancel", "cancel a batch; what has ended so far is kept"),
    ("pause", "let no more lines of a batch begin"),
    ("resume", "let the lines of a paused batch begin again"),
)


def add_batch(parser: argparse.ArgumentParser) -> None:
    """Add the actions."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    run = add_command(actions, "run", "upload a file of requests and make a batch of it")
    run.add_argument("file", type=Path, metavar="FILE", help="JSON lines, in OpenAI's format for batches")
    run.add_argument("--wait", action="store_true", help="wait for the end and download the answers")
    run.add_argument("--endpoint", metavar="URL", help="what all lines ask for; else what the first one says")
    run.add_argument("--window", default="24h", metavar="TIME", help="how long it may take: 30m, 24h, 7d (24h)")
    run.add_argument("--metadata", type=pair, action="append", metavar="KEY=VALUE", help="yours; may be repeated")
    run.add_argument("--webhook", metavar="URL", help="where the batch's end is told")
    _add_waiting(run, "next to FILE")
    wait = add_command(actions, "wait", "wait for a batch's end and download the answers")
    wait.add_argument("batch", metavar="BATCH")
    _add_waiting(wait, "named after BATCH, here")
    listing = add_command(actions, "list", "list your batches, newest first")
    listing.add_argument("--limit", type=int, default=20, metavar="N", help="how many at most (20)")
    for name, text in STEERING:
        add_command(actions, name, text).add_argument("batch", metavar="BATCH")
    output = add_command(actions, "output", "download the answers so far, in the order of the input")
    output.add_argument("batch", metavar="BATCH")
    output.add_argument("-o", "--output", type=Path, metavar="FILE", help="else standard output")
    output.add_argument("--errors", action="store_true", help="the lines that failed, and why")


def _add_waiting(parser: argparse.ArgumentParser, by_default: str) -> None:
    parser.add_argument("--timeout", type=seconds, metavar="SECONDS", help="how long to wait at most")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help=f"where the answers go; {by_default} else")
