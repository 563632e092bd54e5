"""Whose prompts can be counted: tokenizers, loaded beside everything else; a missing one is lived without."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Thread

from schemas.catalog import Catalog, Model
from schemas.errors import StartError
from schemas.jobs import Kind
from schemas.text import TextInput
from tasks.logs import get_logger
from tasks.prompts import FILES, Prompts
from tasks.text import Cost, is_short, judge, schemas_of
from tasks.weights import Weights

PATIENCE_SECONDS = 2.0
"""So long a request waits for a tokenizer that is being loaded."""
RETRY_SECONDS = 300.0
BUILTIN = "builtin"
"""The source of models that read no tokens."""

log = get_logger(__name__)


@dataclass(slots=True)
class _Loading:
    began_at: float
    result: asyncio.Future[Prompts | None]


class Counting:
    """The prompts of a catalog's text models, as far as their tokenizers can be had."""

    def __init__(self, catalog: Catalog, weights: Weights) -> None:
        self._models = [
            model for model in catalog.models.values() if model.kind is Kind.TEXT and model.source != BUILTIN
        ]
        self._weights = weights
        self._loadings: dict[str, _Loading] = {}
        self._failed: set[str] = set()

    def begin(self) -> None:
        """Load whatever the catalog has, in threads of its own."""
        for model in self._models:
            self._load(model)

    async def judge(self, given: TextInput, model: Model) -> tuple[TextInput, Cost | None]:
        """Judge an input, off the loop unless it is short; it comes back fitted into the context, with its cost."""
        prompts, schemas = await self._prompts_of(model), schemas_of(given)
        if prompts is None and not schemas:
            return given, None
        if not schemas and is_short(given):
            return judge(given, model, prompts)
        return await asyncio.to_thread(judge, given, model, prompts)

    async def _prompts_of(self, model: Model) -> Prompts | None:
        if model.source == BUILTIN:
            return None
        loading = self._loadings.get(model.alias)
        if loading is None or (_is_void(loading) and time.monotonic() - loading.began_at > RETRY_SECONDS):
            loading = self._load(model)
        if not loading.result.done():
            await asyncio.wait([loading.result], timeout=PATIENCE_SECONDS)
        return loading.result.result() if loading.result.done() else None

    def _load(self, model: Model) -> _Loading:
        loading = _Loading(time.monotonic(), _in_thread(lambda: self._read(model)))
        self._loadings[model.alias] = loading
        return loading

    def _read(self, model: Model) -> Prompts | None:
        try:
            folder = self._weights.locate_files(model.source, model.revision, FILES)
            return Prompts(folder, model.options.get("chat_template"))
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the files, the engine will say
            if model.alias not in self._failed:
                self._failed.add(model.alias)
                reason = error.message if isinstance(error, StartError) else repr(error)
                log.warning("Prompts are not counted before they are queued.", model=model.alias, reason=reason)
            return None


def _is_void(loading: _Loading) -> bool:
    return loading.result.done() and loading.result.result() is None


def _in_thread(work: Callable[[], Prompts | None]) -> asyncio.Future[Prompts | None]:
    """Run work in a thread that nobody waits for when the process ends: a hub may hang."""
    done: Future[Prompts | None] = Future()
    Thread(target=lambda: done.set_result(work()), name="tokenizer", daemon=True).start()
    return asyncio.wrap_future(done)
