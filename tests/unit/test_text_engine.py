"""The text engine's books, on a decoder that computes nothing: who is inside, who is stopped, what a death means."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from schemas.base import JsonObject
from schemas.errors import AdapterGoneError, CatalogError, EngineDeadError, EngineError, EngineRefusedError
from schemas.events import Finished, Token
from tasks.engine import Capacity, EngineRequest, EngineState
from tests.decoders import ToyDecoder, ToyPlan, toy_text_engine
from tests.engines import ToyLibrary, ask, listen, model
from workers.engines import create_engine
from workers.engines.catalog_adapters import CatalogAdapters
from workers.engines.text import SHORT_CHARACTERS, TextEngine


@pytest.fixture
def decoder() -> ToyDecoder:
    """What decodes."""
    return ToyDecoder()


@pytest.fixture
async def engine(decoder: ToyDecoder) -> AsyncIterator[TextEngine]:
    """An engine with 100 places, ready."""
    made = toy_text_engine(decoder, slots=100)
    await made.load()
    await made.warm_up({"prompt": "hello"})
    yield made
    decoder.may_begin.set()
    decoder.may_go_on.set()
    await made.close()


async def until_inside(engine: TextEngine, decoder: ToyDecoder, *prompts: str) -> list[asyncio.Task[Finished]]:
    """Start requests and wait until the decoder has them."""
    began = len(decoder.names)
    tasks = [
        asyncio.create_task(ask(engine, {"prompt": prompt}, f"job_{began + n}", "text"))
        for n, prompt in enumerate(prompts)
    ]
    async with asyncio.timeout(60):
        while len(decoder.names) < began + len(prompts):  # noqa: ASYNC110 - it comes without an event
            await asyncio.sleep(0.001)
    return tasks


async def test_it_says_what_the_decoder_says(engine: TextEngine) -> None:
    events = await listen(engine, {"prompt": "안녕", "n": 2}, kind="text")
    assert [event for event in events if isinstance(event, Token)] == [
        Token("안", 0),
        Token("안", 1),
        Token("녕", 0),
        Token("녕", 1),
    ]
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.usage == {"prompt_tokens": 2, "completion_tokens": 4, "cached_prompt_tokens": 0}


async def test_the_decoder_is_told_whose_turn_it_is(engine: TextEngine, decoder: ToyDecoder) -> None:
    async with aclosing(engine.run(EngineRequest("job_1", 1, "text", {"prompt": "hello"}, rank=7.5))) as events:
        assert [event async for event in events]
    assert decoder.ranks == [None, 7.5]  # the warm-up has no turn


@pytest.mark.parametrize(("tokens", "figures"), [(1, {}), (3, {"time_per_output_token_ms": 250.0})])
async def test_time_between_tokens_needs_two_of_them(
    engine: TextEngine, decoder: ToyDecoder, tokens: int, figures: JsonObject
) -> None:
    decoder.metrics = SimpleNamespace(
        queued_ts=1.0,
        scheduled_ts=1.25,
        first_token_ts=1.5,
        last_token_ts=1.5 + 0.25 * (tokens - 1),
        num_generation_tokens=tokens,
        num_preemptions=0,
    )
    finished = await ask(engine, {"prompt": "x" * tokens}, "job_1", "text")
    known = {"engine_queue_ms": 250.0, "prefill_ms": 250.0, "decode_ms": 250.0 * (tokens - 1), "preemptions": 0}
    assert finished.metrics == known | figures | {"cached_prompt_tokens": 0}


async def test_the_gate_goes_by_what_is_unread(engine: TextEngine, decoder: ToyDecoder) -> None:
    assert engine.capacity() == Capacity(40, 100)  # 200 tokens may wait, and prompts had 5 so far
    decoder.may_begin.clear()
    decoder.may_go_on.clear()
    waiting = await until_inside(engine, decoder, "x" * 199)
    assert engine.capacity().free == 1
    waiting += await until_inside(engine, decoder, "y")
    assert engine.capacity().free == 0
    decoder.may_begin.set()
    async with asyncio.timeout(60):
        while not engine.capacity().free:  # noqa: ASYNC110 - it comes without an event
            await asyncio.sleep(0.001)
    assert not any(task.done() for task in waiting[:1])
    decoder.may_go_on.set()
    await asyncio.gather(*waiting)
    assert engine.capacity().free > 1


async def test_the_catalog_may_say_how_much_may_wait(decoder: ToyDecoder) -> None:
    engine = toy_text_engine(decoder, slots=100, waiting_tokens=10)
    await engine.load()
    await engine.warm_up({"prompt": "hello"})
    assert engine.capacity().free == 2
    await engine.close()


@pytest.mark.parametrize("options", [{"max_model_len": 10}, {"dtype": "float8"}, {"kv_cache_gib": 0}])
def test_an_option_that_is_none_stops_the_start_with_a_sentence(options: dict[str, object]) -> None:
    with pytest.raises(CatalogError, match=rf"\[models.m\], key 'options.{next(iter(options))}'"):
        create_engine(model("vllm", "text", options=options))


def test_an_option_that_is_misspelt_is_told_with_the_one_that_was_meant() -> None:
    with pytest.raises(
        CatalogError, match=r"options\.kv_cache_gb': There is no such key; did you mean 'kv_cache_gib'\?"
    ):
        create_engine(model("vllm", "text", options={"kv_cache_gb": 1}))


def test_a_model_is_spread_over_gpus_that_nobody_else_has() -> None:
    options = {"tensor_parallel_size": 2}
    create_engine(model("vllm", "text", devices=["gpu0", "gpu2"], options=options), "gpu0")
    for devices, said in (["gpu0", "gpu1"], "are taken twice"), (["cpu0"], "over GPUs only"):
        with pytest.raises(CatalogError, match=said):
            create_engine(model("vllm", "text", devices=devices, options=options), devices[0])


async def test_what_the_decoder_refuses_is_refused(engine: TextEngine) -> None:
    with pytest.raises(EngineRefusedError, match="☠"):
        await listen(engine, {"prompt": "a ☠"}, kind="text")
    assert engine.capacity().free == 40


async def test_a_schema_that_takes_too_long_is_refused(decoder: ToyDecoder) -> None:
    engine = toy_text_engine(decoder, schema_seconds=0.01)
    await engine.load()
    decoder.may_compile.clear()
    with pytest.raises(EngineRefusedError, match=r"not compiled within 0\.01 seconds"):
        await listen(engine, {"prompt": "x", "response_format": {"type": "json_object"}}, kind="text")
    assert (await ask(engine, {"prompt": "x"}, kind="text")).output["text"] == "x"
    decoder.may_compile.set()
    assert engine.capacity().free == 4
    await engine.close()


async def test_leaving_reaches_the_decoder_and_what_was_said_is_counted(
    engine: TextEngine, decoder: ToyDecoder
) -> None:
    request = EngineRequest("job_1", 2, "text", {"prompt": "hello"})
    async with aclosing(engine.run(request)) as events:
        await anext(events)
        await anext(events)
        assert decoder.names == {"job_1-2"}
    assert decoder.names == set()
    assert request.usage == {"prompt_tokens": 5, "completion_tokens": 2}


@pytest.mark.parametrize(
    ("given", "threads"),
    [
        ({"prompt": "hello"}, 0),
        ({"prompt": "x" * (SHORT_CHARACTERS + 1), "max_tokens": 1}, 1),
        ({"prompt": "hello", "response_format": {"type": "json_object"}}, 1),
    ],
)
async def test_what_may_take_long_to_read_does_not_hold_the_others_up(
    engine: TextEngine, decoder: ToyDecoder, monkeypatch: pytest.MonkeyPatch, given: dict[str, object], threads: int
) -> None:
    readers: set[threading.Thread] = set()
    prepare = decoder.prepare

    def note(*arguments: Any) -> ToyPlan:
        readers.add(threading.current_thread())
        return prepare(*arguments)

    monkeypatch.setattr(decoder, "prepare", note)
    await ask(engine, given, kind="text")
    assert len(readers - {threading.current_thread()}) == threads


async def test_a_request_that_is_aborted_while_it_is_read_never_begins(
    engine: TextEngine, decoder: ToyDecoder
) -> None:
    running = asyncio.create_task(listen(engine, {"prompt": "hello" * SHORT_CHARACTERS}, kind="text"))
    await asyncio.sleep(0)
    await engine.abort("job_1")
    assert await running == []
    assert decoder.names == set()


async def test_an_answer_that_is_broken_off_is_none(engine: TextEngine, decoder: ToyDecoder) -> None:
    decoder.may_begin.clear()
    (running,) = await until_inside(engine, decoder, "hello")
    decoder.failed |= decoder.names
    decoder.may_begin.set()
    with pytest.raises(EngineError, match="void") as raised:
        await running
    assert raised.value.retryable


async def test_the_death_of_the_decoder_ends_everybody_inside(engine: TextEngine, decoder: ToyDecoder) -> None:
    decoder.may_begin.clear()
    running = await until_inside(engine, decoder, "hello", "you")
    decoder.is_dead = True
    decoder.may_begin.set()
    ends = await asyncio.gather(*running, return_exceptions=True)
    assert [type(end) for end in ends] == [EngineDeadError] * 2


async def test_its_death_is_noticed_also_by_an_idle_engine(engine: TextEngine, decoder: ToyDecoder) -> None:
    decoder.on_end()
    assert engine.state is EngineState.DEAD
    with pytest.raises(EngineDeadError):
        await listen(engine, {"prompt": "hello"}, kind="text")


async def test_uploaded_adapters_come_and_go_and_nobody_loses_his(decoder: ToyDecoder, tmp_path: Path) -> None:
    library = ToyLibrary({f"lora_{number}": tmp_path for number in range(5)})
    made = TextEngine(model("vllm", "text", options={"max_resident_adapters": 2}), lambda _: decoder, library)
    await made.load()
    for number in range(5):
        await ask(made, {"prompt": "a", "adapter": f"lora_{number}"}, kind="text")
    await asyncio.sleep(0)
    assert decoder.adapters == made.stats()["adapters"] == ["lora_3", "lora_4"]
    decoder.may_go_on.clear()
    running = [
        asyncio.create_task(ask(made, {"prompt": "ab", "adapter": f"lora_{number}"}, f"job_{number}", "text"))
        for number in range(4)
    ]
    async with asyncio.timeout(60):
        while len(decoder.names) < len(running):  # noqa: ASYNC110 - it comes without an event
            await asyncio.sleep(0.001)
    assert {"lora_0", "lora_1", "lora_2", "lora_3"} <= set(decoder.adapters)
    with pytest.raises(AdapterGoneError):
        await ask(made, {"prompt": "a", "adapter": "lora_gone"}, "job_gone", kind="text")
    decoder.may_go_on.set()
    await asyncio.gather(*running)
    await asyncio.sleep(0)
    assert len(decoder.adapters) == 2
    await made.close()


async def test_an_engine_that_is_closed_while_it_loads_leaves_no_decoder_behind() -> None:
    decoder, may_go = ToyDecoder(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def make(_: object) -> ToyDecoder:
        asyncio.run_coroutine_threadsafe(may_go.wait(), loop).result()
        return decoder

    engine = TextEngine(model("vllm", "text"), make, CatalogAdapters(model("vllm", "text"), str))
    loading = asyncio.create_task(engine.load())
    await asyncio.sleep(0)
    await engine.close()
    assert not decoder.is_closed
    may_go.set()
    await asyncio.wait([loading])
    assert decoder.is_closed
