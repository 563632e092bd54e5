"""What can be typed after `stoker loras`."""

from __future__ import annotations

import argparse
from pathlib import Path

from stoker.commands.options import add_command


def add_loras(parser: argparse.ArgumentParser) -> None:
    """Add the actions."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    listing = add_command(actions, "list", "list the adapters that you may use")
    listing.add_argument("--model", metavar="MODEL", help="only those for this model")
    add = add_command(actions, "add", "upload an adapter")
    add.add_argument("file", type=Path, metavar="FILE", help="a .safetensors file, or the folder of one")
    add.add_argument("--model", required=True, metavar="MODEL", help="the model that it was made for")
    add.add_argument("--name", metavar="NAME", help="what you want to call it; else the file's name")
    add.add_argument("--alpha", type=float, metavar="N", help="of a text adapter; else what adapter_config.json says")
    add.add_argument("--shared", action="store_true", help="let everybody use it; for admins")
    add_command(actions, "delete", "delete an adapter; jobs that name it already still run").add_argument(
        "lora", metavar="ADAPTER", help="its id, or its name"
    )
