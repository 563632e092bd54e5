"""Uploaded adapters with weights that end in no numbers: refused before an engine reads them."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from schemas.errors import EngineRefusedError
from tasks.adapters import AdapterFile
from tests.refusals import refusal
from workers.engines.weight_check import check_weights

BIG = 3e4


def adapter(folder: Path, value: float, *, name: str = "a.lora_A.weight", is_catalog: bool = False) -> AdapterFile:
    path = folder / "adapter.safetensors"
    weights = torch.zeros(2, 2, dtype=torch.bfloat16)
    weights[1, 1] = value
    save_file({"b.lora_A.weight": torch.ones(2), name: weights}, path)
    return AdapterFile("lora_1", "comic", "0", path, 2, is_catalog=is_catalog)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), BIG, -BIG])
def test_weights_that_spoil_what_is_computed_beside_them_are_refused(tmp_path: Path, value: float) -> None:
    with pytest.raises(EngineRefusedError, match="'comic' holds weights that are no numbers, or beyond 1,000"):
        check_weights(adapter(tmp_path, value))


def test_usual_weights_are_taken(tmp_path: Path) -> None:
    assert refusal(check_weights, adapter(tmp_path, -9.5)) is None
    assert refusal(check_weights, adapter(tmp_path, BIG, name="a.alpha")) is None


def test_what_the_catalog_lists_is_the_operators_choice(tmp_path: Path) -> None:
    assert refusal(check_weights, adapter(tmp_path, BIG, is_catalog=True)) is None
