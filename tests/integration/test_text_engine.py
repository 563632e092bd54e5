"""The text engine on a real vLLM, with a model that has learned nothing: characters, schemas, tools, adapters."""

import asyncio
import importlib.util
import json
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio
from pydantic import BaseModel, Field
from safetensors.torch import load_file, save_file

from schemas.base import JsonObject
from schemas.errors import AdapterGoneError, EngineError, EngineRefusedError, InputTooLongError, StartError
from schemas.events import EngineEvent, Finished, Token, ToolCallPiece
from tasks.adapters import AdapterFile
from tasks.engine import EngineRequest
from tests.decoders import TOGETHER, LentDecoder
from tests.engines import ToyLibrary, ask, listen, model
from tests.tiny_llama import ADAPTERS
from workers.engines import create_engine
from workers.engines.catalog_adapters import CatalogAdapters
from workers.engines.text import Decoder, TextEngine

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm is not installed (make env brings it)"),
    pytest.mark.asyncio(loop_scope="session"),
]
GREEDY = {"temperature": 0, "max_tokens": 32}
LONG = {"prompt": "x", "temperature": 0, "max_tokens": 1500}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["서울", "Paris"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
QUESTION = [{"role": "user", "content": "How is the weather?"}]
HANGUL = "안녕하세요 🎉👩‍👩‍👧 끝"


def schema(said: JsonObject) -> JsonObject:
    """A format that an answer must keep to."""
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": said}}


@pytest_asyncio.fixture(loop_scope="session")
async def engine(real_decoder: LentDecoder, tiny_llama: Path) -> AsyncIterator[TextEngine]:
    """An engine of its own on the run's one vLLM."""
    adapters = {name: {"source": str(tiny_llama / "adapters" / name)} for name in ADAPTERS}
    told = model("vllm", "text", max_in_flight=32, adapters=adapters)
    made = TextEngine(told, lambda _: cast("Decoder", real_decoder), CatalogAdapters(told, str))
    await made.load()
    await made.warm_up({"prompt": "hello", "max_tokens": 4})
    yield made
    await made.close()
    await real_decoder.forget()


def said(events: list[EngineEvent], choice: int = 0) -> list[str]:
    """The pieces of one answer."""
    return [event.text for event in events if isinstance(event, Token) and event.choice == choice]


async def test_an_answer_comes_token_by_token_and_is_counted(engine: TextEngine) -> None:
    events = await listen(engine, {"prompt": "hello", "max_tokens": 40, "seed": 1}, kind="text")
    assert len(said(events)) > 10
    assert isinstance(events[-1], Finished)
    assert "".join(said(events)) == events[-1].output["text"]
    assert events[-1].output["finish_reason"] == "length"
    assert events[-1].usage == {"prompt_tokens": 5, "completion_tokens": 40, "cached_prompt_tokens": 0}
    figures = events[-1].metrics
    assert figures["prefill_ms"] > 0
    assert figures["decode_ms"] == pytest.approx(figures["time_per_output_token_ms"] * 39, abs=1)
    assert figures["engine_queue_ms"] >= 0
    assert figures["preemptions"] == 0


async def test_greedy_answers_are_those_of_the_bare_library(engine: TextEngine, real_decoder: LentDecoder) -> None:
    from vllm import SamplingParams, TokensPrompt  # noqa: PLC0415 - only where it is

    async def bare(number: int) -> str:
        params = SamplingParams(temperature=0, max_tokens=64)
        prompt = TokensPrompt(prompt_token_ids=real_decoder.own._prompts.encode_text(f"prompt {number}"))  # type: ignore[attr-defined]  # noqa: SLF001 - the library behind it
        text = ""
        async for output in real_decoder.own._llm.generate(prompt, params, f"bare-{number}"):  # type: ignore[attr-defined]  # noqa: SLF001 - the same
            text = output.outputs[0].text  # all of it so far
        return text

    alone = [await bare(number) for number in range(4)]
    given = [{"prompt": f"prompt {number}", "temperature": 0, "max_tokens": 64} for number in range(4)]
    many = await asyncio.gather(*(ask(engine, one, f"job_{n}", "text") for n, one in enumerate(given * 4)))
    assert [one.output["text"] for one in many] == alone * 4


async def test_a_seed_is_kept_and_another_one_says_something_else(engine: TextEngine) -> None:
    first, again, other = [
        (await ask(engine, {"prompt": "hello", "max_tokens": 30, "seed": seed}, kind="text")).output["text"]
        for seed in (1, 1, 2)
    ]
    assert first == again != other


async def test_no_character_is_ever_split(engine: TextEngine) -> None:
    given = {"prompt": "x", "max_tokens": 200, "response_format": schema({"const": HANGUL})}
    events = await listen(engine, given, kind="text")
    assert json.loads("".join(said(events))) == HANGUL
    assert "�" not in "".join(said(events))
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.usage["completion_tokens"] > len(HANGUL.encode())  # a token for each byte, the quotes and the end
    assert len(said(events)) <= len(HANGUL) + 3


@pytest.mark.parametrize("stop", ["🎉", "세요 🎉👩‍", ["끝이 아님", "끝"]])
async def test_a_stop_string_of_many_bytes_is_found_and_not_said(engine: TextEngine, stop: str | list[str]) -> None:
    given = {"prompt": "x", "max_tokens": 200, "response_format": schema({"const": HANGUL}), "stop": stop}
    events = await listen(engine, given, kind="text")
    found = stop if isinstance(stop, str) else stop[1]
    expected = json.dumps(HANGUL, ensure_ascii=False).partition(found)[0]
    assert "".join(said(events)) == expected
    assert isinstance(events[-1], Finished)
    assert (events[-1].output["text"], events[-1].output["finish_reason"]) == (expected, "stop")


async def test_several_answers_are_told_apart(engine: TextEngine) -> None:
    events = await listen(engine, {"messages": QUESTION, "n": 3, "max_tokens": 20, "seed": 5}, kind="text")
    finished = events[-1]
    assert isinstance(finished, Finished)
    choices = finished.output["choices"]
    assert [choice["text"] for choice in choices] == ["".join(said(events, index)) for index in range(3)]
    assert len({choice["text"] for choice in choices}) == 3
    assert finished.output["messages"] == [{"role": "assistant", "content": choice["text"]} for choice in choices]
    assert finished.usage["completion_tokens"] == 60


async def test_several_greedy_answers_are_the_one_that_is_likeliest(engine: TextEngine) -> None:
    given = {"messages": QUESTION, "temperature": 0, "max_tokens": 20}
    one, three = [await ask(engine, given | {"n": n}, kind="text") for n in (1, 3)]
    assert [choice["text"] for choice in three.output["choices"]] == [one.output["text"]] * 3


class City(BaseModel):
    name: str = Field(pattern="^[A-Za-z가-힣]{1,8}$")
    inhabitants: int = Field(ge=0, le=99)


async def test_an_answer_keeps_to_a_schema(engine: TextEngine) -> None:
    given = {"messages": QUESTION, "max_tokens": 200, "response_format": schema(City.model_json_schema())}
    answers = await asyncio.gather(*(ask(engine, given | {"seed": n}, f"job_{n}", "text") for n in range(8)))
    for answer in answers:
        City.model_validate_json(answer.output["text"])
        assert answer.output["finish_reason"] == "stop"


async def test_an_answer_may_have_to_be_any_object(engine: TextEngine) -> None:
    wanted: JsonObject = {"response_format": {"type": "json_object"}, "max_tokens": 60, "n": 16, "seed": 5}
    choices = (await ask(engine, {"messages": QUESTION, **wanted}, kind="text")).output["choices"]
    assert {choice["text"][0] for choice in choices} == {"{"}
    ended = [json.loads(choice["text"]) for choice in choices if choice["finish_reason"] == "stop"]
    assert ended
    assert all(isinstance(one, dict) for one in ended)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
async def test_a_tool_that_must_be_called_is(engine: TextEngine, choice: str | JsonObject) -> None:
    given = {"messages": QUESTION, "tools": [WEATHER], "tool_choice": choice, "max_tokens": 400, "seed": 1}
    events = await listen(engine, given, kind="text")
    finished = events[-1]
    assert isinstance(finished, Finished)
    pieces = [event for event in events if isinstance(event, ToolCallPiece) and event.index == 0]
    assert [piece.name for piece in pieces if piece.name] == ["get_weather"]
    assert [piece.id for piece in pieces if piece.id] == [finished.output["tool_calls"][0]["id"]]
    call = finished.output["tool_calls"][0]
    assert call["id"].startswith("call_")
    assert call["function"]["arguments"] == "".join(piece.arguments for piece in pieces)
    assert json.loads(call["function"]["arguments"])["city"] in ("서울", "Paris")
    assert finished.output["messages"][0]["tool_calls"][0] == call


async def test_who_may_call_a_tool_may_also_just_answer(engine: TextEngine) -> None:
    given = {"messages": QUESTION, "tools": [WEATHER], "max_tokens": 20, **GREEDY}
    answer = await ask(engine, given, kind="text")
    assert answer.output["text"]
    assert answer.output["finish_reason"] == "length"
    assert "tool_calls" not in answer.output


async def test_adapters_answer_differently_and_side_by_side(engine: TextEngine) -> None:
    async def one(adapter: str | None, number: int) -> str:
        given = {"prompt": "hello", "adapter": adapter, **GREEDY}
        text: str = (await ask(engine, given, f"job_{adapter}_{number}", "text")).output["text"]
        return text

    wanted = [None, *ADAPTERS] * 4
    answers = await asyncio.gather(*(one(adapter, number) for number, adapter in enumerate(wanted)))
    assert len(set(answers)) == 3
    assert answers == answers[:3] * 4


async def test_an_adapter_whose_weights_are_no_numbers_is_not_loaded(
    real_decoder: LentDecoder, tiny_llama: Path, tmp_path: Path
) -> None:
    whole = load_file(tiny_llama / "adapters" / ADAPTERS[0] / "adapter_model.safetensors")
    save_file({name: tensor * float("nan") for name, tensor in whole.items()}, tmp_path / "adapter_model.safetensors")
    file = AdapterFile("lora_1", "spoilt", "0", tmp_path / "adapter_model.safetensors", 8, is_catalog=False)
    with pytest.raises(EngineRefusedError, match="'spoilt' holds weights that are no numbers"):
        await real_decoder.load_adapter(file)


async def test_uploaded_adapters_answer_as_the_same_weights_of_the_catalog_do(
    real_decoder: LentDecoder, tiny_llama: Path
) -> None:
    folders = [tiny_llama / "adapters" / name for name in ADAPTERS] * 4
    library = ToyLibrary({f"lora_{n}": folder / "adapter_model.safetensors" for n, folder in enumerate(folders)})
    told = model("vllm", "text", max_in_flight=32, options={"max_resident_adapters": 2})
    made = TextEngine(told, lambda _: cast("Decoder", real_decoder), library)
    await made.load()

    async def one(adapter: str | None) -> str:
        given = {"prompt": "hello", "adapter": adapter, **GREEDY}
        text: str = (await ask(made, given, f"job_{adapter}", "text")).output["text"]
        return text

    answers = await asyncio.gather(*map(one, [None, *(f"lora_{n}" for n in range(len(folders)))]))
    assert answers[1:] == answers[1:3] * 4
    assert len(set(answers)) == 3
    assert len(made.stats()["adapters"]) == 2
    assert await one("lora_0") == answers[1]
    await made.close()
    await real_decoder.forget()


async def test_what_it_cannot_do_is_refused_for_that_job_alone(engine: TextEngine) -> None:
    refused: list[JsonObject] = [
        {"prompt": "x", "adapter": "quiet"},
        {
            "prompt": "x",
            "response_format": schema({"type": "array", "items": {"type": "string"}, "uniqueItems": True}),
        },
        {"prompt": "x", "response_format": schema({"type": "string", "pattern": "^(a|b|ab){5000}c$"})},
        {"prompt": "x", "response_format": schema({"type": "integer", "minimum": 9, "maximum": 1})},
        {"prompt": "x" * 2048},
        {"prompt": "x", "temperature": "hot"},
        {"prompt": "x", "response_format": schema({"anyOf": [{"$ref": "#"}]})},
    ]
    beside = asyncio.create_task(ask(engine, {"prompt": "hello", **GREEDY}, "beside", "text"))
    ends = await asyncio.gather(
        *(ask(engine, given, f"job_{n}", "text") for n, given in enumerate(refused)), return_exceptions=True
    )
    assert [isinstance(end, EngineRefusedError) for end in ends] == [True] * 7
    assert isinstance(ends[0], AdapterGoneError)
    assert "uniqueItems" in str(ends[1]) or "xgrammar" in str(ends[1])
    assert re.search("alternatives (and|or) repetitions", str(ends[2]))  # which limit it meets is the machine's choice
    assert re.match("The schema cannot be held to: [^/]+$", str(ends[3])), "nothing of where the library stands"
    assert isinstance(ends[4], InputTooLongError)
    assert "2,048 tokens long" in str(ends[4])
    assert "allows no answer" in str(ends[6])
    assert (await beside).output["finish_reason"] == "length"
    assert engine.capacity().free == 32


async def test_whoever_is_inside_and_has_no_place_yet_waits_in_the_decoder(engine: TextEngine) -> None:
    asked = [ask(engine, {"prompt": "hello", "max_tokens": 60}, f"job_{n}", "text") for n in range(32)]
    answers = asyncio.gather(*asked)
    running = set()
    while not answers.done():
        await asyncio.sleep(0.005)
        running.add(engine.stats().get("running", 0))
    assert max(running) == TOGETHER
    assert {answer.output["finish_reason"] for answer in await answers} == {"length"}


async def until_running(engine: TextEngine, given: JsonObject, pieces: int = 3) -> Any:
    """Start a request and listen to a few of its tokens."""
    request = EngineRequest("job_1", 1, "text", given)
    events = engine.run(request)
    for _ in range(pieces):
        await anext(events)
    return events, request


async def test_leaving_an_answer_frees_its_place_and_counts_what_was_said(
    engine: TextEngine, real_decoder: LentDecoder
) -> None:
    events, request = await until_running(engine, LONG)
    assert real_decoder.unfinished == 1
    assert engine.capacity().free == 31
    await events.aclose()
    assert real_decoder.unfinished == 0
    assert engine.capacity().free == 32
    assert request.usage["prompt_tokens"] == 1
    assert 3 <= request.usage["completion_tokens"] < 1500


async def test_whoever_waits_inside_goes_by_rank_and_not_by_arrival(engine: TextEngine) -> None:
    ended = []

    async def say(job_id: str, rank: float | None) -> None:
        request = EngineRequest(job_id, 1, "text", {"prompt": "x", "temperature": 0, "max_tokens": 4}, rank=rank)
        async with aclosing(engine.run(request)) as events:
            async for _ in events:
                pass
        ended.append(job_id)

    async with AsyncExitStack() as opened:
        running = [
            await opened.enter_async_context(aclosing(engine.run(EngineRequest(job_id, 1, "text", LONG | {"n": n}))))
            for job_id, n in (("job_1", 16), ("job_2", TOGETHER - 17), ("job_3", 1))  # all of the places
        ]
        for events in running:
            await anext(events)
        waiting = [
            asyncio.create_task(say(job_id, rank))
            for job_id, rank in (("last", None), ("second", 2.5), ("first", 1.5))
        ]
        async with asyncio.timeout(60):
            while engine.stats()["waiting"] < len(waiting):  # noqa: ASYNC110 - it comes without an event
                await asyncio.sleep(0.01)
        await running[-1].aclose()
        await asyncio.gather(*waiting)
    assert ended == ["first", "second", "last"]


async def test_an_aborted_answer_ends_without_an_end(engine: TextEngine, real_decoder: LentDecoder) -> None:
    events, _ = await until_running(engine, LONG)
    await engine.abort("job_1")
    async with aclosing(events):
        rest = [event async for event in events]
    assert not any(isinstance(event, Finished) for event in rest)
    assert real_decoder.unfinished == 0
    assert engine.capacity().free == 32


async def test_an_answer_that_is_broken_off_is_no_answer(engine: TextEngine, real_decoder: LentDecoder) -> None:
    events, _ = await until_running(engine, LONG)
    await real_decoder.abort("job_1-1")  # behind the engine's back
    with pytest.raises(EngineError, match="void"):
        async for _ in events:
            pass
    assert engine.capacity().free == 32


async def test_a_signal_to_the_whole_group_truncates_nothing(engine: TextEngine, real_decoder: LentDecoder) -> None:
    events, _ = await until_running(engine, LONG)
    (core,) = real_decoder.own._processes()  # type: ignore[attr-defined]  # noqa: SLF001 - the process that a group has beside us
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        os.kill(core.pid, number)
    *_, last = [event async for event in events]
    assert last.usage["completion_tokens"] == 1500
    assert last.output["finish_reason"] == "length"


async def test_nobody_listens_so_an_answer_comes_in_two_pieces(engine: TextEngine) -> None:
    events = await listen(engine, {"prompt": "x", "max_tokens": 60, "stream": False, "seed": 1}, kind="text")
    streamed = await ask(engine, {"prompt": "x", "max_tokens": 60, "seed": 1}, kind="text")
    assert len(events) <= 3
    assert isinstance(events[-1], Finished)
    assert events[-1].output == streamed.output
    assert events[-1].usage["completion_tokens"] == 60


async def test_what_was_read_before_is_not_read_again(engine: TextEngine) -> None:
    given = {"prompt": "the same long beginning " * 20, "max_tokens": 4}
    first, second = [await ask(engine, given, kind="text") for _ in range(2)]
    assert first.usage["cached_prompt_tokens"] == 0
    assert second.usage["cached_prompt_tokens"] >= 128
    assert engine.stats()["prefix_cache_hit_rate"] > 0


@pytest.mark.parametrize(
    ("place", "options", "said"),
    [
        ("gpu0", {}, "the installed vLLM is for cpu"),
        ("cpu0", {"tool_call_parser": "smoke"}, "no 'tool_call_parser' named 'smoke'. It has: .*hermes"),
        ("cpu0", {"quantization": "guesswork"}, "vLLM cannot run .*quantization"),
    ],
)
async def test_what_cannot_be_started_is_said(
    real_decoder: LentDecoder, tiny_llama: Path, place: str, options: JsonObject, said: str
) -> None:
    wrong = create_engine(model("vllm", "text", source=str(tiny_llama), options=options), place)
    with pytest.raises(StartError, match=said):
        await wrong.load()
    await wrong.close()
