"""What an operator does at the command line: migrations, keys, the table of parts."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from producer_api.authentication import DAY_SECONDS, Scope, make_key
from schemas.errors import StartError
from storage import callers
from storage.callers import KeyRow
from storage.database import Database
from tasks.views import moment

LOCAL = "local"
ALL_SCOPES = ",".join(Scope)

if TYPE_CHECKING:
    Actions = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - argparse has no public name for it


def parser() -> argparse.ArgumentParser:
    """Return the reader of the command line."""
    root = argparse.ArgumentParser(
        prog="python -m producer_api", description="Stoker's HTTP side. Without a command it serves."
    )
    root.set_defaults(command="serve")
    root.add_argument("--host", help="the address to listen on, instead of STOKER_API_HOST")
    root.add_argument("--port", type=int, help="the port to listen on, instead of STOKER_API_PORT")
    commands = root.add_subparsers(metavar="COMMAND")
    _command(commands, "migrate", "bring the database's schema to this code's version")
    _command(commands, "openapi", "print the description of the HTTP interface")
    parts = _command(commands, "parts", "print the table of parts")
    form = parts.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as the supervisor reads it (the default)")
    form.add_argument("--procfile", action="store_true", help="as a Procfile")
    _add_key_commands(_command(commands, "keys", "make, list and revoke API keys"))
    return root


def _add_key_commands(keys: argparse.ArgumentParser) -> None:
    actions = keys.add_subparsers(metavar="ACTION", required=True)
    create = _action(actions, "create", "make a key; it is printed once", _create)
    create.add_argument("--caller", required=True, help="whose jobs it sees; a new name is a new caller")
    ensure = _action(actions, "ensure", f"make a key for the caller '{LOCAL}'", _create)
    ensure.set_defaults(caller=LOCAL)
    for made in (create, ensure):
        made.add_argument("--name", required=True, help="what the key is for")
        made.add_argument("--scopes", type=_scopes, default=ALL_SCOPES, help=f"default: {ALL_SCOPES}")
        made.add_argument("--expires-in-days", type=float, help="default: never")
        made.add_argument("--json", action="store_true", help="print JSON")
    _action(actions, "check", "read a key from standard input; exit code 0 when it is valid", _check)
    _action(actions, "list", "list every key, without its secret", _list)
    _action(actions, "revoke", "end a key's life", _revoke).add_argument("key_id", metavar="ID")


def _command(commands: Actions, name: str, does: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=does, description=does)
    command.set_defaults(command=name)
    return command


def _action(
    actions: Actions,
    name: str,
    does: str,
    run: Callable[[Database, argparse.Namespace], str],
) -> argparse.ArgumentParser:
    action = actions.add_parser(name, help=does, description=does)
    action.set_defaults(run=run)
    return action


def _scopes(text: str) -> frozenset[str]:
    """Read `submit,read`; argparse says what is wrong with it."""
    scopes = frozenset(filter(None, text.split(",")))
    if not scopes or not scopes <= set(Scope):
        raise argparse.ArgumentTypeError(f"scopes are a list of {', '.join(Scope)} with commas between them")
    return scopes


def _create(database: Database, arguments: argparse.Namespace) -> str:
    days = arguments.expires_in_days
    expires_at = None if days is None else time.time() + days * DAY_SECONDS
    key = database.transact(
        lambda connection: make_key(connection, arguments.caller, arguments.name, arguments.scopes, expires_at)
    )
    return json.dumps({"id": key.id, "key": key.secret}) if arguments.json else key.secret


def _check(database: Database, _: argparse.Namespace) -> str:
    secret = sys.stdin.readline().strip()
    if database.read(lambda connection: callers.find_valid_key(connection, secret)) is None:
        raise StartError(
            "This key is unknown, revoked or expired; make one with `python -m producer_api keys create`."
        )
    return "This key is valid."


def _list(database: Database, _: argparse.Namespace) -> str:
    keys = database.read(lambda connection: callers.list_keys(connection, None))
    return "\n".join("\t".join((key.id, f"…{key.hint}", key.caller, key.name, *_standing(key))) for key in keys)


def _standing(key: KeyRow) -> tuple[str, str]:
    until = f"until {moment(key.expires_at)}" if key.expires_at else "valid"
    return ",".join(sorted(key.scopes)), "revoked" if key.revoked_at else until


def _revoke(database: Database, arguments: argparse.Namespace) -> str:
    if not database.transact(lambda connection: callers.revoke_key(connection, arguments.key_id)):
        raise StartError(f"There is no key '{arguments.key_id}'; `python -m producer_api keys list` shows all.")
    return f"The key {arguments.key_id} is revoked."
