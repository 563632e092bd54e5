"""The embedding engine's books, on an encoder without torch: who shares a step, who fails alone, who goes first."""

import asyncio
import io
from collections.abc import AsyncIterator, Callable

import numpy as np
import pytest
from pydantic_core import PydanticSerializationError, from_json, to_json

from schemas.embedding import EmbeddingInput
from schemas.errors import CatalogError, EngineDeadError, EngineError, EngineRefusedError, InputTooLongError
from schemas.events import Finished, Produced, ProgressMade, rows_of
from tasks.engine import EngineState
from tests.engines import LIMIT, ToyEncoder, ask, listen, model, toy_engine
from workers.engines import embedding
from workers.engines.embedding import EmbeddingEngine, EmbeddingOptions
from workers.engines.vectors import NPY_NUMBERS, answer

FIRST_TEXTS = ToyEncoder.step_tokens // LIMIT
"""So many of the longest texts are in a step while nobody is in a hurry."""


@pytest.fixture
def encoder() -> ToyEncoder:
    """What computes."""
    return ToyEncoder()


@pytest.fixture
async def engine(encoder: ToyEncoder) -> AsyncIterator[EmbeddingEngine]:
    """An engine with 100 slots, ready."""
    made = toy_engine(encoder, slots=100)
    await made.load()
    await made.warm_up(None)
    yield made
    encoder.may_go.set()
    await made.close()


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what other threads bring about."""
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - it comes without an event
            await asyncio.sleep(0.01)


async def occupy(engine: EmbeddingEngine, encoder: ToyEncoder, *texts: str) -> asyncio.Task[Finished]:
    """Have the encoder stand still in a job's first step."""
    encoder.may_go.clear()
    running = asyncio.create_task(ask(engine, {"texts": list(texts)}, "first"))
    await until(lambda: encoder.is_computing)
    return running


async def until_waiting(engine: EmbeddingEngine, tokens: int) -> None:
    """Wait until so many tokens wait, while the encoder stands still."""
    await until(lambda: bool(engine.stats()["waiting_tokens"] == tokens))


async def test_each_text_gets_its_own_vector_in_the_order_of_the_texts(engine: EmbeddingEngine) -> None:
    texts = [f"{'x' * (n % 7)}{n}" for n in range(50)]
    together = (await ask(engine, {"texts": texts})).output["embeddings"]
    alone = [(await ask(engine, {"texts": text})).output["embeddings"][0] for text in texts]
    assert together == alone
    assert len({tuple(vector) for vector in together}) == 50


async def test_vectors_have_length_one_unless_asked_otherwise(engine: EmbeddingEngine) -> None:
    plain = (await ask(engine, {"texts": ["abc"]})).output["embeddings"][0]
    raw = (await ask(engine, {"texts": ["abc"], "normalize": False})).output["embeddings"][0]
    assert np.linalg.norm(plain) == pytest.approx(1, abs=1e-6)
    assert np.linalg.norm(raw) > 10
    assert raw / np.linalg.norm(raw) == pytest.approx(plain, abs=1e-6)


async def test_shorter_vectors_are_cut_and_then_normalized(engine: EmbeddingEngine) -> None:
    raw = (await ask(engine, {"texts": ["abc"], "normalize": False})).output["embeddings"][0]
    output = (await ask(engine, {"texts": ["abc"], "dimensions": 3})).output
    assert output["dimensions"] == 3
    assert output["embeddings"][0] == pytest.approx(raw[:3] / np.linalg.norm(raw[:3]), abs=1e-6)


async def test_tokens_are_counted(engine: EmbeddingEngine) -> None:
    assert (await ask(engine, {"texts": ["abc", "de"]})).usage == {"prompt_tokens": 5}


async def test_a_text_that_is_too_long_is_refused_by_its_number_and_by_how_much(engine: EmbeddingEngine) -> None:
    with pytest.raises(InputTooLongError) as raised:
        await listen(engine, {"texts": ["a", "b" * (LIMIT + 1234)]})
    assert raised.value.message == (
        "Text 1 (counted from 0) is 1,284 tokens long, 1,234 more than the 50 that 'm' reads. Shorten or split it, or "
        'send "truncate": "end" to embed its beginning.'
    )
    assert raised.value.code == "context_length_exceeded"
    assert not raised.value.retryable


async def test_a_text_that_is_too_long_is_cut_when_asked(engine: EmbeddingEngine) -> None:
    cut = await ask(engine, {"texts": ["b" * 1000], "truncate": "end"})
    assert cut.output == (await ask(engine, {"texts": ["b" * LIMIT]})).output
    assert cut.usage == {"prompt_tokens": LIMIT}


async def test_jobs_that_come_together_share_steps(engine: EmbeddingEngine, encoder: ToyEncoder) -> None:
    first = await occupy(engine, encoder, "first")
    others = [asyncio.create_task(ask(engine, {"texts": [f"text {n:02}"]}, f"job_{n}")) for n in range(20)]
    await until_waiting(engine, 20 * len("text 00"))
    encoder.may_go.set()
    await asyncio.gather(first, *others)
    assert [len(batch) for batch in encoder.batches] == [1, 20]


async def test_a_question_goes_ahead_of_bulk(engine: EmbeddingEngine, encoder: ToyEncoder) -> None:
    bulk = await occupy(engine, encoder, *(f"bulk {n:045}" for n in range(300)))
    await until_waiting(engine, (300 - FIRST_TEXTS) * 50)
    question = asyncio.create_task(ask(engine, {"texts": "question"}, "question"))
    await until_waiting(engine, (300 - FIRST_TEXTS) * 50 + len("question"))
    encoder.may_go.set()
    await question
    assert not bulk.done()
    assert [len(encoder.batches[0]), encoder.batches[1]] == [FIRST_TEXTS, ["question"]]
    assert len((await bulk).output["embeddings"]) == 300


@pytest.mark.parametrize("bad", [0, 3, 6, 7])
async def test_a_text_that_fails_fails_its_job_only(engine: EmbeddingEngine, encoder: ToyEncoder, bad: int) -> None:
    first = await occupy(engine, encoder, "first")
    jobs = [["good", "fine"] for _ in range(4)]
    jobs[bad // 2][bad % 2] = "ba☠d"
    running = [asyncio.create_task(ask(engine, {"texts": texts}, f"job_{n}")) for n, texts in enumerate(jobs)]
    await until_waiting(engine, 4 * len("goodfine"))
    encoder.may_go.set()
    await first
    ended = await asyncio.gather(*running, return_exceptions=True)
    failed = ended.pop(bad // 2)
    assert isinstance(failed, EngineError)
    assert f"at text {bad % 2} (" in str(failed)
    assert all(isinstance(one, Finished) for one in ended)
    assert engine.state is EngineState.READY


async def test_a_text_without_a_vector_is_refused(engine: EmbeddingEngine) -> None:
    both = [ask(engine, {"texts": ["a", "b∅"]}, "job_1"), ask(engine, {"texts": ["c"]}, "job_2")]
    refused, answered = await asyncio.gather(*both, return_exceptions=True)
    assert isinstance(refused, EngineRefusedError)
    assert "no vector for text 1" in refused.message
    assert isinstance(answered, Finished)


async def test_an_aborted_job_is_left_out_of_the_next_step(engine: EmbeddingEngine, encoder: ToyEncoder) -> None:
    encoder.may_go.clear()
    bulk = asyncio.create_task(listen(engine, {"texts": ["x" * 50] * 2000}, "bulk"))
    await until_waiting(engine, (2000 - FIRST_TEXTS) * 50)
    await engine.abort("bulk")
    assert await bulk == []
    assert engine.capacity().free == 100
    encoder.may_go.set()
    await ask(engine, {"texts": ["next"]})
    assert [len(batch) for batch in encoder.batches] == [FIRST_TEXTS, 1]


async def test_a_dead_device_takes_everything_along(engine: EmbeddingEngine, encoder: ToyEncoder) -> None:
    encoder.failure = EngineDeadError()
    running = [ask(engine, {"texts": [f"text {n}"]}, f"job_{n}") for n in range(3)]
    ended = await asyncio.gather(*running, return_exceptions=True)
    assert [type(one) for one in ended] == [EngineDeadError] * 3
    assert engine.state is EngineState.DEAD


async def test_bulk_reports_progress_and_a_question_does_not(
    encoder: ToyEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "PROGRESS_SECONDS", 0.01)
    engine = toy_engine(encoder, step_tokens=100)
    await engine.load()
    encoder.seconds = 0.02
    bulk, question = await asyncio.gather(
        listen(engine, {"texts": ["x" * 50] * 60}, "bulk"), listen(engine, {"texts": ["short"]}, "question")
    )
    made = [event.fraction for event in bulk if isinstance(event, ProgressMade)]
    assert made == sorted(made)
    assert any(0 < fraction < 1 for fraction in made)
    assert len(question) == 1
    await engine.close()


async def test_many_numbers_come_as_a_file_too(engine: EmbeddingEngine, encoder: ToyEncoder) -> None:
    enough = NPY_NUMBERS // encoder.dimensions
    (finished,) = await listen(engine, {"texts": ["x"] * (enough - 1)})
    assert isinstance(finished, Finished)
    file, finished = await listen(engine, {"texts": [f"{n}" for n in range(enough)]})
    assert isinstance(file, Produced)
    assert isinstance(finished, Finished)
    assert (file.name, file.content_type) == ("embeddings.npy", "application/x-npy")
    matrix = np.load(io.BytesIO(file.content), allow_pickle=False)
    assert (matrix.dtype, matrix.shape) == (np.float32, (enough, encoder.dimensions))
    assert np.abs(matrix - np.array(finished.output["embeddings"])).max() < 1e-7


async def test_the_gate_closes_when_too_many_tokens_wait(encoder: ToyEncoder) -> None:
    engine = toy_engine(encoder, waiting_tokens=1000)
    await engine.load()
    encoder.may_go.clear()
    running = asyncio.create_task(ask(engine, {"texts": ["x" * 50] * 150}))
    await asyncio.sleep(0)
    assert engine.capacity().free == 0  # guessed from the characters
    await until_waiting(engine, (150 - FIRST_TEXTS) * 50)
    assert engine.capacity().free == 0  # counted, less what is being computed
    encoder.may_go.set()
    await running
    assert engine.capacity().free == 4
    await engine.close()


async def test_the_catalog_may_make_steps_narrower(encoder: ToyEncoder) -> None:
    engine = toy_engine(encoder, step_tokens=100)
    await engine.load()
    await ask(engine, {"texts": ["x" * 50] * 20})
    assert {len(batch) for batch in encoder.batches} == {2}
    await engine.close()


async def test_memory_is_tidied_up_once_after_large_jobs_and_never_for_small_ones(
    engine: EmbeddingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    tidied: list[int] = []
    monkeypatch.setattr(embedding, "TIDY_SECONDS", 0.5)  # by then all three have ended
    monkeypatch.setattr(embedding, "trim_malloc", lambda: tidied.append(len(tidied)))
    large: dict[str, object] = {"texts": ["x"] * embedding.TIDY_TEXTS}
    await ask(engine, {"texts": ["x"]}, "small")
    await asyncio.gather(*(ask(engine, large, f"large-{number}") for number in range(3)))
    await until(lambda: bool(tidied))
    await asyncio.sleep(0.1)
    assert tidied == [0]
    await ask(engine, large, "one more")
    await until(lambda: tidied == [0, 1])


def test_a_wrong_option_is_named() -> None:
    def never(_: EmbeddingOptions) -> ToyEncoder:
        raise AssertionError

    with pytest.raises(CatalogError, match=r"options\.dtype"):
        EmbeddingEngine(model("embedding", options={"dtype": "int8"}), never)
    with pytest.raises(CatalogError, match=r"options\.speed"):
        EmbeddingEngine(model("embedding", options={"speed": 2}), never)


async def test_dimensions_that_the_model_does_not_have_stop_the_start() -> None:
    engine = EmbeddingEngine(model("embedding", dimensions=[4, 16]), lambda _: ToyEncoder())
    with pytest.raises(CatalogError, match="'dimensions': 16 is more than the 8 numbers"):
        await engine.load()


async def test_a_large_answer_becomes_the_same_json_as_plain_numbers_would() -> None:
    matrix = np.random.default_rng(7).standard_normal((NPY_NUMBERS // 8, 8)).astype(np.float32)
    [_, finished] = answer(list(matrix), 5, EmbeddingInput(texts=["a"], normalize=False))
    assert isinstance(finished, Finished)
    written = to_json(finished.output, fallback=rows_of)
    assert from_json(written) == {"embeddings": np.round(matrix.astype(np.float64), 8).tolist(), "dimensions": 8}
    with pytest.raises(PydanticSerializationError):
        to_json({"embeddings": object()}, fallback=rows_of)
