"""The command line: `python -m stoker up [--detach]`, `down`, `status`."""

import argparse
import sys

from stoker.down import down, status
from stoker.settings import read_settings
from stoker.up import up, up_detached


def main() -> int:
    """Run one command; the exit code."""
    parser = argparse.ArgumentParser(prog="stoker", description="Start, stop and look at the whole platform.")
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("up", help="start everything and keep it running")
    start.add_argument("--detach", action="store_true", help="in the background; returns when all is ready")
    commands.add_parser("down", help="stop what runs in this folder")
    commands.add_parser("status", help="say what runs in this folder")
    arguments = parser.parse_args()
    settings = read_settings()
    if arguments.command == "down":
        return down(settings)
    if arguments.command == "status":
        return status(settings)
    if arguments.detach:
        return up_detached(settings)
    return up(settings, sys.stdout, echo_parts=True, when_up=lambda: None)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
