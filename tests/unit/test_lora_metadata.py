"""What diffusers writes beside a LoRA's tensors: settings that no image could be drawn with are refused."""

import json
from typing import Any

import pytest

from schemas.errors import InvalidError
from tasks.loras.metadata import KEY, check_metadata
from tests.refusals import refusal


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"unet.r": 8, "unet.lora_alpha": 8, "unet.use_dora": False, "unet.target_modules": ["to_q"]},
        {"unet.lora_alpha": 0.5, "unet.alpha_pattern": {"mid_block": 4.0}, "unet.use_rslora": True},
    ],
)
def test_usual_settings_are_taken(said: dict[str, Any]) -> None:
    assert refusal(check_metadata, {"format": "pt", KEY: json.dumps(said)}) is None


def test_a_file_need_not_have_any() -> None:
    assert refusal(check_metadata, {"format": "pt"}) is None


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ("garbage", "not a JSON object"),
        ("7", "not a JSON object"),
        ("[" * 5_000, "not a JSON object"),
        ('{"unet.use_dora": true}', "a DoRA"),
        ('{"text_encoder.use_dora": true}', "a DoRA"),
        ('{"unet.lora_alpha": "x"}', "'lora_alpha'"),
        ('{"unet.lora_alpha": null}', "'lora_alpha'"),
        ('{"unet.lora_alpha": NaN}', "'lora_alpha'"),
        ('{"unet.lora_alpha": 1e308}', "'lora_alpha'"),
        ('{"unet.alpha_pattern": 7}', "'alpha_pattern'"),
        ('{"unet.alpha_pattern": {"mid_block": Infinity}}', "'alpha_pattern'"),
    ],
)
def test_settings_that_nothing_can_be_drawn_with_are_refused(raw: str, why: str) -> None:
    with pytest.raises(InvalidError, match=why) as refused:
        check_metadata({KEY: raw})
    assert refused.value.param == "file"
