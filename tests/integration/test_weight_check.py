"""Uploaded adapters with weights that end in no numbers: refused before an engine reads them."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from schemas.errors import EngineRefusedError
from tasks.adapters import AdapterFile
from tests.refusals import refusal
from workers.engines.weight_check import check_weights

BIG = 3e4
MODELS = Path(__file__).parents[2] / "models"


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


@pytest.mark.parametrize("names", [("x.lora_A.w", "x.lora_B.w"), ("x.lora.down.weight", "x.lora.up.weight")])
@pytest.mark.parametrize(("alpha", "is_right"), [(None, True), (8.0, True), (1000.0, False)])
def test_changes_that_cannot_be_meant_are_refused(
    tmp_path: Path, names: tuple[str, str], alpha: float | None, *, is_right: bool
) -> None:
    path = tmp_path / "adapter_model.safetensors"
    save_file({names[0]: torch.ones(4, 100), names[1]: torch.full((100, 4), 2.0)}, path)  # norms of 20 and 40
    if alpha is not None:
        (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 4, "lora_alpha": alpha}))
    file = AdapterFile("lora_1", "comic", "0", path, 4, is_catalog=False)
    refused = refusal(check_weights, file)
    assert (refused is None) is is_right
    assert is_right or "'comic' would change the model beyond all reason" in str(refused)


@pytest.mark.parametrize("path", sorted(MODELS.glob("*/adapters/*/*.safetensors")), ids=lambda path: path.parent.name)
def test_our_own_adapters_would_be_taken(path: Path) -> None:
    assert refusal(check_weights, AdapterFile("lora_1", "comic", "0", path, 8, is_catalog=False)) is None


def test_usual_weights_are_taken(tmp_path: Path) -> None:
    assert refusal(check_weights, adapter(tmp_path, -9.5)) is None
    assert refusal(check_weights, adapter(tmp_path, BIG, name="a.alpha")) is None


def test_what_the_catalog_lists_is_the_operators_choice(tmp_path: Path) -> None:
    assert refusal(check_weights, adapter(tmp_path, BIG, is_catalog=True)) is None
