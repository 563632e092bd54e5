"""Tools: what a model is held to when it calls one, and its calls read out of the text it writes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import uuid4

from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.parser import ParserManager
from vllm.sampling_params import StructuredOutputsParams
from vllm.tokenizers import TokenizerLike
from vllm.tool_parsers import ToolParserManager

from schemas.errors import EngineRefusedError, StartError
from schemas.events import Token, ToolCallPiece
from schemas.text import TextInput


def check_name(name: str | None) -> None:
    """Refuse a name that vLLM does not know, before anything is loaded."""
    known = ToolParserManager.list_registered()
    if name is not None and name not in known:
        raise StartError(f"vLLM has no 'tool_call_parser' named '{name}'. It has: {', '.join(known)}.")


class ToolCalls:
    """One model's manner of calling tools, by the name that vLLM has for it."""

    def __init__(self, name: str | None, tokenizer: TokenizerLike) -> None:
        self._tokenizer = tokenizer
        try:
            self._parser_class = ParserManager.get_parser(
                tool_parser_name=name, enable_auto_tools=True, tokenizer=tokenizer
            )
        except (TypeError, KeyError) as error:
            raise StartError(
                f"The catalog's option 'tool_call_parser' is '{name}', with which vLLM does not read this model's "
                f"calls: {error}"
            ) from error

    def plan(self, given: TextInput) -> ToolPlan | None:
        """Return how a request's calls are held to their schemas and read; None where there are no tools."""
        if not given.tools or given.tool_choice == "none":
            return None
        if self._parser_class is None:
            raise EngineRefusedError(
                "This model's catalog entry has no 'tool_call_parser' among its options, so it cannot call tools; "
                "leave 'tools' out or choose another model."
            )
        return ToolPlan(self._parser_class, self._tokenizer, given)


class ToolPlan:
    """What vLLM's parser makes of one request's tools."""

    def __init__(self, parser_class: Any, tokenizer: TokenizerLike, given: TextInput) -> None:
        asked = given.model_dump(include={"tools", "tool_choice", "response_format"}, exclude_none=True, by_alias=True)
        self._parser_class = parser_class
        self._tokenizer = tokenizer
        self._request = ChatCompletionRequest(messages=[], **asked)
        self._request = self._parser().adjust_request(self._request)

    @property
    def structure(self) -> StructuredOutputsParams | None:
        """Return what the answer is held to, calls and format together."""
        found: StructuredOutputsParams | None = self._request.extract_structured_outputs()
        return found

    @property
    def skip_special_tokens(self) -> bool:
        """Say whether the parser can do without the tokens that are no text."""
        return bool(self._request.skip_special_tokens)

    def reader(self, choice: int, prompt: Sequence[int]) -> CallReader:
        """Return a reader for one of the answers."""
        return CallReader(self._parser(), self._request, choice, prompt)

    def _parser(self) -> Any:
        return self._parser_class(self._tokenizer, self._request.tools)


class CallReader:
    """Splits one answer, piece by piece, into text and calls."""

    def __init__(self, parser: Any, request: ChatCompletionRequest, choice: int, prompt: Sequence[int]) -> None:
        self._parser = parser
        self._request = request
        self._choice = choice
        self._prompt = list(prompt)
        self._named: set[int] = set()

    def read(self, text: str, token_ids: Sequence[int], *, is_last: bool) -> Iterator[Token | ToolCallPiece]:
        """Return what another piece of the answer says."""
        said = self._parser.parse_delta(
            text, list(token_ids), self._request, prompt_token_ids=self._prompt, finished=is_last
        )
        if said is None:
            return
        if said.content:
            yield Token(said.content, self._choice)
        for call in said.tool_calls or ():
            function = call.function
            is_new = call.index not in self._named and function is not None and function.name is not None
            if is_new:
                self._named.add(call.index)
            yield ToolCallPiece(
                call.index,
                arguments=(function.arguments if function is not None else None) or "",
                id=f"call_{uuid4().hex}" if is_new else None,
                name=function.name if is_new and function is not None else None,
                choice=self._choice,
            )
