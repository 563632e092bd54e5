"""What can be typed after `stoker webhooks`."""

from __future__ import annotations

import argparse
from typing import Any

from stoker.commands.options import add_command, moment

STEERING = (
    ("enable", "send to an endpoint again"),
    ("disable", "stop sending to an endpoint and give up what waits for it"),
    ("delete", "delete an endpoint"),
    ("rotate", "give an endpoint a new secret; the old one signs beside it for a day"),
    ("test", "send an endpoint an event that means nothing"),
)


def add_webhooks(parser: argparse.ArgumentParser) -> None:
    """Add the actions."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    create = add_command(actions, "create", "register an endpoint and print its secret, this once")
    create.add_argument("url", metavar="URL")
    create.add_argument("--event", action="append", metavar="EVENT", help="may be repeated; every end when not said")
    create.add_argument("--description", metavar="TEXT")
    for name, text in STEERING:
        add_command(actions, name, text).add_argument("endpoint", metavar="ENDPOINT")
    replay = add_command(actions, "replay", "send a delivery again; with --since, all that an endpoint missed")
    replay.add_argument("what", metavar="DELIVERY|ENDPOINT")
    replay.add_argument("--since", type=moment, metavar="TIME", help="what happened from this moment on")
    _add_log(actions)
    secret = add_command(actions, "secret", "print the secret that signs what goes to URLs of single jobs")
    secret.add_argument("--rotate", action="store_true", help="make a new one; the old one signs beside it for a day")
    listen = add_command(actions, "listen", "receive, verify and show webhooks on this machine")
    listen.add_argument("--port", type=int, default=8787, metavar="N", help="the port to listen on (8787)")
    listen.add_argument("--secret", metavar="SECRET", help="an endpoint's secret; your own when not said")
    listen.add_argument("--count", type=int, metavar="N", help="end after so many requests")


def _add_log(actions: Any) -> None:
    log = add_command(actions, "deliveries", "list deliveries, newest first")
    for name in ("job", "endpoint", "event", "status"):
        log.add_argument(f"--{name}", metavar=name.upper())
    log.add_argument("--since", type=moment, metavar="TIME", help="happened at this moment or later")
    log.add_argument("--until", type=moment, metavar="TIME", help="happened before this moment")
    log.add_argument("--limit", type=int, default=20, metavar="N", help="how many at most (20)")
    add_command(actions, "delivery", "show a delivery with all of its attempts").add_argument(
        "delivery", metavar="DELIVERY"
    )
