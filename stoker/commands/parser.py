"""What can be typed: every command with its options. The commands themselves are loaded when one is run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from stoker.commands.batch_words import add_batch
from stoker.commands.lora_words import add_loras
from stoker.commands.options import adapter_use, add_command, days, moment, once_key, pair, seconds
from stoker.commands.webhook_words import add_webhooks

DESCRIPTION = "Submit jobs to Stoker and look after its queues. Start the platform with `stoker up`."
EPILOG = "Exit codes: 0 all is well; 1 the job failed or the API refused; 2 the command line is wrong; 130 Ctrl-C."

Commands = Any
"""What argparse's add_subparsers returns has no public name."""


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Return what the words mean, or end with a sentence and exit code 2."""
    parser = build_parser()
    arguments, rest = parser.parse_known_args(words)
    if rest and (arguments.command != "submit" or any(word.startswith("-") for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:  # argparse does not go on with TEXT after an option: `submit MODEL --wait TEXT`
        arguments.text += rest
    return arguments


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = argparse.ArgumentParser(prog="stoker", description=DESCRIPTION, epilog=EPILOG)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_submit(commands)
    _add_jobs(commands)
    add_batch(add_command(commands, "batch", "list your batches, run a file of requests, or steer a batch"))
    _add_queues(commands)
    _add_workers(commands)
    add_command(commands, "models", "list the models of the catalog")
    add_loras(add_command(commands, "loras", "list the adapters that you may use, add one or delete one"))
    _add_keys(commands)
    add_webhooks(add_command(commands, "webhooks", "list your webhook endpoints, or steer them"))
    demo = add_command(commands, "demo", "run one job of every kind and show what happens")
    demo.add_argument(
        "-o", "--output", default="stoker-demo", metavar="FOLDER", help="where the pictures go (stoker-demo)"
    )
    start = commands.add_parser("up", help="start the whole platform and keep it running")
    start.add_argument("--detach", action="store_true", help="in the background; returns when all is ready")
    commands.add_parser("down", help="stop what runs in this folder")
    commands.add_parser("status", help="say what runs in this folder")
    return parser


def _add_submit(commands: Commands) -> None:
    submit = add_command(commands, "submit", "submit a job")
    submit.add_argument("model", metavar="MODEL", help="a model's alias; `stoker models` lists them")
    submit.add_argument("text", metavar="TEXT", nargs="*", help="what to say, draw or embed; else stdin")
    submit.add_argument(
        "--adapter",
        type=adapter_use,
        action="append",
        metavar="NAME[:STRENGTH]",
        help="an adapter of the model, which `stoker models` lists; images may have several, each with a strength",
    )
    submit.add_argument("--seed", type=int, metavar="NUMBER", help="the same seed gives the same picture or text")
    submit.add_argument("-n", type=int, metavar="COUNT", help="how many pictures or texts")
    submit.add_argument(
        "--input", metavar="JSON", help="the input, or other fields of it, as JSON; @FILE, @- for stdin"
    )
    submit.add_argument("--kind", help="what the job produces; the model's own kind when it is not said")
    submit.add_argument("--wait", action="store_true", help="wait for the end and print the result")
    submit.add_argument("--watch", action="store_true", help="watch the job live")
    submit.add_argument(
        "-o", "--output", metavar="FOLDER", help="wait for the end and save what was made there; it is made if need be"
    )
    submit.add_argument("--timeout", type=seconds, metavar="SECONDS", help="with --wait: how long at most")
    submit.add_argument("--priority", choices=("high", "normal", "low"))
    submit.add_argument("--ttl", type=seconds, metavar="SECONDS", help="expire when it has not begun by then")
    submit.add_argument("--run-at", type=moment, metavar="TIME", help="not before this moment")
    submit.add_argument("--retention", type=seconds, metavar="SECONDS", help="how long the result is kept")
    submit.add_argument("--webhook", metavar="URL", help="where the job's end is told")
    submit.add_argument("--metadata", type=pair, action="append", metavar="KEY=VALUE", help="yours; may be repeated")
    submit.add_argument("--idempotency-key", type=once_key, metavar="KEY", help="the same key again is the same job")


def _add_jobs(commands: Commands) -> None:
    jobs = add_command(commands, "jobs", "list your jobs, newest first")
    for name in ("status", "kind", "model", "queue"):
        jobs.add_argument(f"--{name}", metavar=name.upper())
    jobs.add_argument("--metadata", type=pair, action="append", metavar="KEY=VALUE")
    jobs.add_argument("--since", type=moment, metavar="TIME", help="created at this moment or later")
    jobs.add_argument("--until", type=moment, metavar="TIME", help="created before this moment")
    jobs.add_argument("--caller", metavar="NAME", help="another caller's jobs; for admins")
    jobs.add_argument("--limit", type=int, default=20, metavar="N", help="how many at most (20)")
    for name, text in (
        ("get", "look at a job"),
        ("watch", "watch a job live until it ends"),
        ("cancel", "cancel a job"),
        ("retry", "run a job that has ended once more, as a new one"),
        ("delete", "erase a job that has ended: input, output and bytes"),
    ):
        add_command(commands, name, text).add_argument("job", metavar="JOB")
    result = add_command(commands, "result", "download what a job produced")
    result.add_argument("job", metavar="JOB")
    result.add_argument("-o", "--output", metavar="FILE", help="a file, or a folder for all artifacts; else stdout")
    result.add_argument("--artifact", metavar="NAME", help="which one, where there are several")


def _add_queues(commands: Commands) -> None:
    queues = add_command(commands, "queues", "list the queues, or steer one")
    actions = queues.add_subparsers(dest="action", metavar="ACTION")
    for name, text in (
        ("pause", "take no more jobs from a queue; what runs goes on"),
        ("resume", "take jobs from a paused queue again"),
        ("purge", "cancel every job that waits in a queue, whoever submitted it"),
        ("drain", "pause a queue and move what waits in it to another placement of its model"),
    ):
        add_command(actions, name, text).add_argument("queue", metavar="QUEUE")


def _add_workers(commands: Commands) -> None:
    workers = add_command(commands, "workers", "list the living workers, or drain one")
    actions = workers.add_subparsers(dest="action", metavar="ACTION")
    add_command(actions, "drain", "let a worker finish what it holds and stop").add_argument(
        "worker", metavar="WORKER"
    )


def _add_keys(commands: Commands) -> None:
    keys = add_command(commands, "keys", "list API keys, make one or revoke one")
    keys.add_argument("--caller", default=argparse.SUPPRESS, metavar="NAME", help="another caller's; * for all")
    actions = keys.add_subparsers(dest="action", metavar="ACTION")
    create = add_command(actions, "create", "make a key and print its secret, this once")
    create.add_argument("name", metavar="NAME", help="what it is for")
    create.add_argument(
        "--scope", action="append", required=True, choices=("submit", "read", "admin"), help="may be repeated"
    )
    create.add_argument("--days", type=days, metavar="N", help="it ends by itself after so many days")
    create.add_argument("--caller", default=argparse.SUPPRESS, metavar="NAME", help="whose jobs it sees")
    add_command(actions, "revoke", "revoke a key").add_argument("key", metavar="KEY", help="its id")
