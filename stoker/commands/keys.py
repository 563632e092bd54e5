"""`stoker keys`: list them, make one, revoke one."""

from __future__ import annotations

from stoker.client import Key
from stoker.commands.context import Context
from stoker.commands.words import clock

HEADERS = ("KEY", "STATE", "SCOPES", "NAME")


def keys(context: Context) -> int:
    """List the keys, make one or revoke one."""
    if context.typed.action == "create":
        return _create(context)
    if context.typed.action == "revoke":
        context.client.revoke_key(context.typed.key)
        if not context.wants_json:
            context.screen.say(f"{context.typed.key} is revoked; within five seconds it opens nothing.")
        return 0
    found = context.client.keys(_caller(context))
    if context.wants_json:
        context.screen.json([key.raw for key in found])
        return 0
    rows = [(key.id, _state(key), " ".join(key.scopes), _name(key)) for key in found]
    context.screen.table(HEADERS, rows, "There are no keys of that caller.")
    return 0


def _create(context: Context) -> int:
    typed, screen = context.typed, context.screen
    made = context.client.create_key(typed.name, typed.scope, expires_in_days=typed.days, caller=_caller(context))
    if context.wants_json:
        screen.json(made.raw)
        return 0
    screen.say(str(made.key))
    screen.note(f"This is the secret of {made.id}. It is shown this once: store it now.")
    return 0


def _caller(context: Context) -> str | None:
    return getattr(context.typed, "caller", None)


def _state(key: Key) -> str:
    if key.revoked_at:
        return "revoked"
    return f"ends {clock(key.expires_at)[:10]}" if key.expires_at else "valid"


def _name(key: Key) -> str:
    whose = "" if key.caller == key.name else f" ({key.caller})"
    return f"{key.name}{whose} {key.hint or ''}"
