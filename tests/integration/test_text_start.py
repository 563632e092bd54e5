"""What a text engine says of a model that it cannot load."""

import importlib.util
import shutil
from pathlib import Path

import pytest

from schemas.errors import StartError
from tests.decoders import LentDecoder
from tests.engines import model
from workers.engines import create_engine

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm is not installed (make env brings it)"),
    pytest.mark.asyncio(loop_scope="session"),
]


async def test_a_damaged_model_is_said(real_decoder: LentDecoder, tiny_llama: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_llama, tmp_path / "model")
    for weights in folder.glob("*.safetensors"):
        weights.write_bytes(b"\xff" * 6 + b"\x00" * 60)  # a header of 256 TiB
    damaged = create_engine(model("vllm", "text", source=str(folder)))
    with pytest.raises(StartError, match=r"vLLM cannot run .*/model': .+ Correct "):
        await damaged.load()
    await damaged.close()
