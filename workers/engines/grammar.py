"""Schemas are compiled here once before vLLM compiles them: it would stand still for one that takes too long."""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from time import thread_time

import xgrammar
from vllm.sampling_params import StructuredOutputsParams
from vllm.tokenizers import TokenizerLike

from schemas.errors import EngineRefusedError

LONGEST_READING_SECONDS = 0.5
"""Of CPU, however busy the machine is: vLLM reads a schema in the event loop, where nothing else happens meanwhile."""
REMEMBERED = 1000
CACHE_BYTES = 64 * 2**20
_ORIGIN = re.compile(r"^\[[\d:]+\] \S+: ")
"""When and where in its source xgrammar says something."""


class Grammars:
    """Judges what answers shall be held to. Belongs into threads; one that hangs can only be left alone."""

    def __init__(self, tokenizer: TokenizerLike, vocabulary: int) -> None:
        info = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=vocabulary)
        self._vocabulary = vocabulary
        self._compiler = xgrammar.GrammarCompiler(info, max_threads=1, cache_limit_bytes=CACHE_BYTES)
        self._known: OrderedDict[str, None] = OrderedDict()

    def judge(self, wanted: StructuredOutputsParams) -> None:
        """Compile, or refuse."""
        said = wanted.structural_tag or (json.dumps(wanted.json) if wanted.json is not None else None)
        if said is None or said in self._known:
            return
        try:
            self._compile(said, is_tag=wanted.structural_tag is not None)
        except (RuntimeError, ValueError, TypeError) as error:
            first_line = _ORIGIN.sub("", str(error).strip().partition("\n")[0])
            raise EngineRefusedError(f"The schema cannot be held to: {first_line}") from None
        self._known[said] = None
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def _compile(self, said: str, *, is_tag: bool) -> None:
        began_at = thread_time()
        if is_tag:
            grammar = xgrammar.Grammar.from_structural_tag(said)
        else:
            grammar = xgrammar.Grammar.from_json_schema(said, any_whitespace=False)
        if thread_time() - began_at > LONGEST_READING_SECONDS:
            raise EngineRefusedError("The schema has too many alternatives or repetitions; ask for fewer.")
        matcher = xgrammar.GrammarMatcher(self._compiler.compile_grammar(grammar))
        first = xgrammar.allocate_token_bitmask(1, self._vocabulary)
        matcher.fill_next_token_bitmask(first)
        if not first.any():
            raise EngineRefusedError("The schema allows no answer: what it refers to only leads back to itself.")
