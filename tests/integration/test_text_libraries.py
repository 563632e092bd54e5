"""What vLLM needs of the machine beside its own package."""

from pathlib import Path

import pytest

from schemas.errors import StartError
from tests.decoders import LentDecoder
from tests.engines import model
from workers.engines import create_engine


async def test_a_library_that_the_machine_lacks_is_named(
    real_decoder: LentDecoder, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.engines.decoder.NUMA", "libnowhere.so.1")
    wrong = create_engine(model("vllm", "text", source=str(tiny_llama)), "cpu0")
    with pytest.raises(StartError, match=r"needs libnowhere\.so\.1.*apt install libnuma1"):
        await wrong.load()
    await wrong.close()
