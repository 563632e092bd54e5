"""What decodes for the text engine's tests: a toy that says the prompt again, and one real vLLM for a whole run."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schemas.base import JsonObject
from schemas.errors import EngineDeadError, EngineRefusedError
from schemas.text import TextInput
from tasks.adapters import AdapterFile
from tests.engines import model
from workers.engines.catalog_adapters import CatalogAdapters
from workers.engines.text import Decoder, TextEngine

UPLOADED_RANK = 8
TOGETHER = 24
"""So many answers grow at once in the real one, however many are inside."""


@dataclass
class ToyPiece:
    """A character, or the end."""

    text: str
    finish_reason: str | None = None
    index: int = 0

    @property
    def token_ids(self) -> list[int]:
        """A token per character."""
        return [ord(character) for character in self.text]


@dataclass
class ToyStep:
    """A character for each answer."""

    outputs: list[ToyPiece]
    num_cached_tokens: int = 0
    metrics: object = None


@dataclass
class ToyPlan:
    """What is said, and when it begins."""

    tokens: list[int]
    said: str
    given: TextInput
    tools: None = None

    @property
    def is_structured(self) -> bool:
        """Whether there is a schema to compile."""
        return self.given.response_format is not None


@dataclass
class ToyDecoder:
    """Says the prompt again, a character at each step; stops at a step where it is told to."""

    step_tokens: int = 100
    names: set[str] = field(default_factory=set)
    """The requests that run."""
    aborted: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    paces: list[int] = field(default_factory=list)
    """How many characters were to be handed out together, one after the other."""
    adapters: list[str] = field(default_factory=list)
    """What is resident."""
    ranks: list[float | None] = field(default_factory=list)
    metrics: object = None
    """What each step says of the whole request."""
    is_dead: bool = False
    is_closed: bool = False
    on_end: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self.may_begin = asyncio.Event()
        self.may_begin.set()
        self.may_compile = threading.Event()
        self.may_compile.set()
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()

    def watch(self, on_end: Callable[[], None]) -> None:
        """Remember whom to tell."""
        self.on_end = on_end

    async def load_adapter(self, file: AdapterFile) -> str:
        """Remember it."""
        self.adapters.append(file.id)
        return file.id

    async def drop_adapter(self, adapter: str) -> None:
        """Forget it."""
        self.adapters.remove(adapter)

    def prepare(self, given: TextInput, adapter: str | None = None) -> ToyPlan:
        """Refuse ☠."""
        assert adapter is None or adapter in self.adapters
        if "☠" in given.text:
            raise EngineRefusedError("There is a ☠ in the prompt.")
        return ToyPlan([ord(character) for character in given.text], given.text[: given.max_tokens], given)

    def compile(self, plan: ToyPlan) -> None:
        """Take as long as it is told to."""
        self.may_compile.wait(60)

    async def decode(self, name: str, plan: ToyPlan, rank: float | None) -> AsyncGenerator[ToyStep, None]:
        """Say it."""
        self.names.add(name)
        self.ranks.append(rank)
        held = ""
        try:
            await self.may_begin.wait()
            for index, character in enumerate(plan.said):
                await asyncio.sleep(0)
                if index:
                    await self.may_go_on.wait()
                if self.is_dead:
                    raise EngineDeadError
                is_last = index == len(plan.said) - 1
                reason = "abort" if name in self.aborted | self.failed else "length" if is_last else None
                held += character
                if self.paces[-1:] in ([], [1]) or reason or index == 0:
                    pieces = [ToyPiece(held, reason, choice) for choice in range(plan.given.n)]
                    yield ToyStep(pieces, metrics=self.metrics)
                    held = ""
                if reason:
                    return
        finally:
            self.names.discard(name)

    def pace(self, name: str, tokens: int) -> None:
        """Hold characters back; there is one request in a test of this."""
        assert name in self.names
        self.paces.append(tokens)

    async def abort(self, name: str) -> None:
        """Have the next step be the last one."""
        self.aborted.add(name)
        self.may_begin.set()
        self.may_go_on.set()

    def describe(self) -> JsonObject:
        """Say what it is."""
        return {"dtype": "toy"}

    def close(self) -> None:
        """Remember it."""
        self.is_closed = True


def toy_text_engine(decoder: Decoder, slots: int = 4, **options: Any) -> TextEngine:
    """A text engine on a decoder."""
    made = model("vllm", "text", max_in_flight=slots, options=options)
    return TextEngine(made, lambda _: decoder, CatalogAdapters(made, str))


class LentDecoder:
    """A decoder that many engines use one after the other, so none of them may close it."""

    def __init__(self, decoder: Decoder) -> None:
        self.own = decoder
        self._loaded: list[Any] = []

    async def load_adapter(self, file: AdapterFile) -> Any:
        """Remember what an engine leaves behind."""
        self._loaded.append(await self.own.load_adapter(file))
        return self._loaded[-1]

    async def drop_adapter(self, adapter: Any) -> None:
        """Forget one."""
        self._loaded.remove(adapter)
        await self.own.drop_adapter(adapter)

    async def forget(self) -> None:
        """Be as it was before it was lent."""
        for adapter in list(self._loaded):
            await self.drop_adapter(adapter)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.own, name)

    def close(self) -> None:
        """Leave it as it is."""


def start_decoder(folder: Path, adapters: tuple[str, ...], slots: int) -> Any:
    """A vLLM with a process of its own; takes half a minute."""
    from workers.engines.decoder import Setting, VllmDecoder  # noqa: PLC0415 - only where it is
    from workers.engines.text_options import TextOptions  # noqa: PLC0415 - the same

    paths = {name: str(folder / "adapters" / name) for name in adapters}
    options = TextOptions(dtype="float32", kv_cache_gib=0.0625, tool_call_parser="hermes", max_num_seqs=TOGETHER)
    return VllmDecoder(Setting(str(folder), "main", "cpu0", slots, 2048, paths, UPLOADED_RANK, options))
