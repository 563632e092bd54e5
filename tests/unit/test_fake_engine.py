"""The fake engine: the same input gives the same output, requests share steps, and faults come when asked for."""

import asyncio
import json
import struct
import zlib
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.base import JsonObject
from schemas.catalog import Model
from schemas.errors import CatalogError, EngineDeadError, EngineError, EngineRefusedError
from schemas.events import EngineEvent, Finished, Produced, ProgressMade, Token, ToolCallPiece
from schemas.jobs import Kind
from tasks.engine import Capacity, EngineRequest, EngineState
from workers.engines import create_engine
from workers.engines.fake import FakeEngine, expected_artifacts, expected_output

KINDS: dict[str, JsonObject] = {
    "text": {"prompt": "a red circle", "max_tokens": 5},
    "image": {"prompt": "a red circle", "n": 2, "steps": 3, "width": 24, "height": 16},
    "embedding": {"texts": ["a red circle", "a blue one"]},
}


def make_engine(kind: str = "text", slots: int = 4, **options: Any) -> FakeEngine:
    return FakeEngine(
        Model.model_validate(
            {
                "alias": "m",
                "kind": kind,
                "engine": "fake",
                "source": "builtin",
                "devices": ["cpu0"],
                "max_in_flight": slots,
                "options": options,
            }
        )
    )


async def run(engine: FakeEngine, given: JsonObject, kind: str = "text", **fields: Any) -> list[EngineEvent]:
    request = replace(EngineRequest("job_1", 1, kind, given), **fields)
    async with aclosing(engine.run(request)) as events:
        return [event async for event in events]


async def say(engine: FakeEngine, prompt: str, **fields: Any) -> list[EngineEvent]:
    return await run(engine, {"prompt": prompt, "max_tokens": 5}, **fields)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_run_gives_the_expected_output_whatever_the_attempt(kind: str) -> None:
    for attempt in (1, 7):
        events = await run(make_engine(kind), KINDS[kind], kind, attempt=attempt)
        finished = events[-1]
        assert isinstance(finished, Finished)
        assert finished.output == expected_output(kind, KINDS[kind])
        files = {event.name: event.content for event in events if isinstance(event, Produced)}
        assert files == expected_artifacts(kind, KINDS[kind])


async def test_tokens_make_up_the_text_and_are_counted() -> None:
    *events, finished = await say(make_engine(), "one two")
    assert isinstance(finished, Finished)
    assert "".join(event.text for event in events if isinstance(event, Token)) == finished.output["text"]
    assert finished.output["text"].startswith("one two ")
    assert finished.usage == {"prompt_tokens": 2, "completion_tokens": 5}


async def test_several_answers_are_told_apart() -> None:
    given = {"prompt": "one", "max_tokens": 4, "n": 2}
    *events, finished = await run(make_engine(), given)
    assert isinstance(finished, Finished)
    choices = finished.output["choices"]
    for choice in choices:
        tokens = [event.text for event in events if isinstance(event, Token) and event.choice == choice["index"]]
        assert "".join(tokens) == choice["text"]
    assert finished.output["text"] == choices[0]["text"] != choices[1]["text"]
    assert finished.usage == {"prompt_tokens": 1, "completion_tokens": 8}


async def test_a_tool_is_called_when_the_prompt_says_so() -> None:
    tools = [{"type": "function", "function": {"name": "look"}}]
    given = {"messages": [{"role": "user", "content": "fake:tool now"}], "tools": tools, "max_tokens": 2}
    *pieces, finished = await run(make_engine(), given)
    assert isinstance(finished, Finished)
    [call] = finished.output["tool_calls"]
    assert (finished.output["text"], finished.output["finish_reason"]) == ("", "tool_calls")
    assert json.loads(call["function"]["arguments"]) == {"said": "fake:tool now"}
    told = [piece for piece in pieces if isinstance(piece, ToolCallPiece)]
    assert (told[0].id, told[0].name) == (call["id"], call["function"]["name"]) == ("call_0", "look")
    assert "".join(piece.arguments for piece in told) == call["function"]["arguments"]


@given(prompt=st.text(min_size=1), seed=st.none() | st.integers(0, 2**63 - 1), tokens=st.integers(1, 200))
def test_every_prompt_has_an_answer_of_its_own(prompt: str, seed: int | None, tokens: int) -> None:
    given = {"prompt": prompt, "seed": seed, "max_tokens": tokens}
    assert expected_output("text", given) == expected_output("text", dict(given))
    assert len(expected_output("text", given)["text"].split()) <= tokens


def test_the_seed_changes_the_answer() -> None:
    texts = [expected_output("text", {"prompt": "go on", "seed": seed})["text"] for seed in range(5)]
    assert len(set(texts)) == 5


def test_images_are_real_pngs_of_the_asked_size() -> None:
    given = {"prompt": "x", "width": 24, "height": 40, "n": 3}
    files = expected_artifacts("image", given)
    assert sorted(files) == ["image-0.png", "image-1.png", "image-2.png"]
    assert len(set(files.values())) == 3
    content = files["image-0.png"]
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", content[16:24]) == (24, 40)
    length = struct.unpack(">I", content[33:37])[0]
    assert len(zlib.decompress(content[41 : 41 + length])) == 40 * (1 + 24 * 3)


def test_vectors_have_length_one_and_tell_texts_apart() -> None:
    first, second, third = expected_output("embedding", {"texts": ["a", "b", "a"]})["embeddings"]
    assert first == third != second
    assert sum(number * number for number in first) == pytest.approx(1, abs=1e-4)


async def test_images_report_progress() -> None:
    events = await run(make_engine("image"), KINDS["image"], "image")
    assert [event.fraction for event in events if isinstance(event, ProgressMade)] == pytest.approx([1 / 3, 2 / 3, 1])


async def test_running_requests_share_their_steps() -> None:
    engine = make_engine(slots=8, decode_step_ms=1)
    await asyncio.gather(*(say(engine, f"prompt {number}", job_id=f"job_{number}") for number in range(8)))
    assert engine.stats()["steps"] < 2 * 8  # one by one it would be 5 for each


async def test_capacity_counts_what_is_inside() -> None:
    engine = make_engine(slots=2)
    assert engine.capacity() == Capacity(2, 2)
    running = asyncio.create_task(say(engine, "fake:hang"))
    await asyncio.sleep(0)
    assert engine.capacity() == Capacity(1, 2)
    await engine.abort("job_1")
    await running
    assert engine.capacity() == Capacity(2, 2)


async def test_more_than_the_slots_wait_inside() -> None:
    engine = make_engine(slots=1)
    first = asyncio.create_task(say(engine, "fake:hang", job_id="job_1"))
    await asyncio.sleep(0)
    second = asyncio.create_task(say(engine, "hello", job_id="job_2"))
    await asyncio.sleep(0.01)
    assert not second.done()
    await engine.abort("job_1")
    assert isinstance((await second)[-1], Finished)
    assert not any(isinstance(event, Finished) for event in await first)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"decode_step_ms": 1}])
async def test_a_hanging_run_ends_without_an_answer_when_it_is_aborted(kind: str, options: JsonObject) -> None:
    engine = make_engine(kind, **options)
    field = "texts" if kind == "embedding" else "prompt"
    running = asyncio.create_task(run(engine, KINDS[kind] | {field: "fake:hang"}, kind))
    await asyncio.sleep(0.02)
    assert not running.done()
    await engine.abort("job_1")
    assert not any(isinstance(event, Finished) for event in await running)


async def test_cancelling_the_task_frees_the_slot() -> None:
    engine = make_engine(decode_step_ms=1)
    running = asyncio.create_task(say(engine, "fake:hang"))
    await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait([running])
    assert engine.capacity().free == 4


async def test_it_fails_when_asked_to() -> None:
    engine = make_engine()
    with pytest.raises(EngineError):
        await say(engine, "fake:fail", attempt=9)
    with pytest.raises(EngineRefusedError):
        await say(engine, "fake:refuse")
    with pytest.raises(EngineError):
        await say(engine, "fake:fail-times=2", attempt=2)
    assert isinstance((await say(engine, "fake:fail-times=2", attempt=3))[-1], Finished)


async def test_it_says_as_many_tokens_as_asked_for() -> None:
    finished = (await say(make_engine(), "fake:tokens=3 x"))[-1]
    assert isinstance(finished, Finished)
    assert finished.usage["completion_tokens"] == 3


async def test_its_death_takes_everything_along() -> None:
    engine = make_engine(decode_step_ms=1)
    running = [asyncio.create_task(say(engine, "fake:hang", job_id=f"job_{number}")) for number in range(3)]
    await asyncio.sleep(0.01)
    with pytest.raises(EngineDeadError):
        await say(engine, "fake:dead", job_id="job_9")
    for task in running:
        with pytest.raises(EngineDeadError):
            await task
    assert engine.state is EngineState.DEAD
    with pytest.raises(EngineDeadError):
        await say(engine, "hello")


async def test_faults_can_be_switched_off() -> None:
    assert isinstance((await say(make_engine(faults=False), "fake:fail fake:dead"))[-1], Finished)


async def test_its_life() -> None:
    engine = make_engine(load_ms=1)
    states = [engine.state]
    await engine.load()
    states.append(engine.state)
    await engine.warm_up({"prompt": "hello"})
    states.append(engine.state)
    await engine.close()
    states.append(engine.state)
    assert states == [EngineState.NEW, EngineState.LOADING, EngineState.READY, EngineState.DEAD]


async def test_an_input_of_another_kind_is_refused() -> None:
    with pytest.raises(EngineRefusedError, match="does not fit"):
        await run(make_engine(), {"texts": ["x"]})


def test_a_wrong_option_is_named() -> None:
    with pytest.raises(CatalogError, match=r"options\.decode_step_ms"):
        make_engine(decode_step_ms=-1)
    with pytest.raises(CatalogError, match=r"options\.speed"):
        make_engine(speed=2)


def test_the_registry_knows_the_engine_and_names_those_it_knows() -> None:
    model = Model.model_validate(
        {"alias": "m", "kind": "text", "engine": "fake", "source": "builtin", "devices": ["cpu0"]}
    )
    assert isinstance(create_engine(model), FakeEngine)
    with pytest.raises(CatalogError, match=r"Known engines: .*embedding, fake"):
        create_engine(model.model_copy(update={"engine": "warp"}))


@pytest.mark.parametrize("engine", ["diffusers", "embedding"])
def test_an_engine_for_another_kind_is_refused(engine: str) -> None:
    model = Model(alias="echo", kind=Kind.TEXT, engine=engine, source="builtin", devices=["cpu0"])
    with pytest.raises(CatalogError, match=rf"is of the kind 'text', the engine '{engine}' is for '"):
        create_engine(model)
