"""`stoker loras`: the adapters that one may use; add one, delete one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from stoker.client import Lora, StokerError
from stoker.commands.context import Context
from stoker.commands.words import size

HEADERS = ("ADAPTER", "NAME", "MODEL", "RANK", "SIZE", "OWNER", "IN MEMORY ON")
ID = "lora_"
"""How the ids of uploaded adapters begin."""


def loras(context: Context) -> int:
    """Run one of the commands about adapters; without one, list them."""
    return ACTIONS[context.typed.action](context)


def _list(context: Context) -> int:
    found = context.client.loras.list(model=getattr(context.typed, "model", None))
    if context.wants_json:
        context.screen.json([lora.raw for lora in found])
        return 0
    context.screen.table(
        HEADERS, [_row(lora) for lora in found], "There are no adapters; `stoker loras add` adds one."
    )
    return 0


def _row(lora: Lora) -> tuple[str, ...]:
    rank = "" if lora.rank is None else str(lora.rank)
    bytes_in_words = "" if lora.bytes is None else size(lora.bytes)
    owner = lora.source if lora.source == "catalog" else "everybody" if lora.shared else "you"
    return lora.id, lora.name, lora.base_model, rank, bytes_in_words, owner, ", ".join(lora.resident_on)


def _add(context: Context) -> int:
    typed = context.typed
    made = context.client.loras.add(
        typed.file, model=typed.model, name=typed.name or _name(typed.file), alpha=typed.alpha, shared=typed.shared
    )
    return _show(
        context, made.raw, made.id, f"{made.name} is an adapter of {made.base_model} now, of rank {made.rank}."
    )


def _name(file: Path) -> str:
    """Return a name that the API takes, made of the file's."""
    kept = (character if character.isascii() and character.isalnum() else "-" for character in file.stem.lower())
    return "".join(kept).strip("-")[:48].strip("-")


def _delete(context: Context) -> int:
    lora = _find(context, context.typed.lora)
    context.client.loras.delete(lora)
    return _show(context, {"id": lora, "deleted": True}, f"{lora} is deleted", "Jobs that name it already still run.")


def _find(context: Context, said: str) -> str:
    """Return the id of one's own adapter, which jobs may call by its name, too."""
    if said.startswith(ID):
        return said
    named = [one for one in context.client.loras.list() if one.name == said and one.source != "catalog"]
    own = [one for one in named if not one.shared] or named
    if len(own) > 1:
        ids = ", ".join(f"{one.id} of {one.base_model}" for one in own)
        raise StokerError(f"Several adapters are called {said}; say which one by its id: {ids}.")
    return own[0].id if own else said


def _show(context: Context, raw: Any, said: str, note: str) -> int:
    if context.wants_json:
        context.screen.json(raw)
        return 0
    context.screen.say(said)
    context.screen.note(note)
    return 0


ACTIONS: dict[str | None, Callable[[Context], int]] = {None: _list, "list": _list, "add": _add, "delete": _delete}
