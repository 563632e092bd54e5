"""The body of POST /v1/batches: a long one is read piece by piece and means what a short one would."""

import json
from typing import Any

import pytest

from producer_api.batch_bodies import READ_TOGETHER, read_batch
from producer_api.batch_wishes import PlainBatchWanted
from schemas.errors import InvalidError

MANY = 2 * READ_TOGETHER + 7


def body(count: int = MANY, **changes: Any) -> dict[str, Any]:
    inputs = [{"kind": "text", "model": "echo", "input": {"prompt": f"{n}"}} for n in range(count)]
    return {"inputs": inputs, "completion_window": "2h", "metadata": {"a": "b"}} | changes


def refusal(asked: dict[str, Any]) -> tuple[str | None, str]:
    with pytest.raises(InvalidError) as refused:
        read_batch(json.dumps(asked).encode())
    return refused.value.param, refused.value.message


@pytest.mark.parametrize("count", [1, READ_TOGETHER, READ_TOGETHER + 1, MANY])
def test_a_body_is_read_as_if_in_one_piece(count: int) -> None:
    content = json.dumps(body(count, inputs=[{**line, "custom_id": None} for line in body(count)["inputs"]])).encode()
    whole, read = PlainBatchWanted.model_validate_json(content, strict=True), read_batch(content)
    assert read == whole
    assert read.model_dump_json(exclude_defaults=True) == whole.model_dump_json(exclude_defaults=True)


@pytest.mark.parametrize("count", [3, MANY])
@pytest.mark.parametrize(
    ("change", "param", "words"),
    [
        ({"kind": "video"}, "inputs.{last}.kind", "'inputs.{last}.kind' is not valid"),
        ({"model": 7}, "inputs.{last}.model", "string"),
        ({"more": 1}, "inputs.{last}.more", "There is no field"),
        ({"custom_id": "input-0"}, None, "two of the 'inputs' have the custom_id 'input-0'"),
        ({"kind": "image"}, None, "inputs[0] makes text and inputs[{last}] image"),
    ],
)
def test_what_is_wrong_with_an_input_is_named(
    count: int, change: dict[str, Any], param: str | None, words: str
) -> None:
    asked = body(count)
    asked["inputs"][-1] |= change
    last = count - 1
    named, message = refusal(asked)
    assert named == (param and param.format(last=last))
    assert words.format(last=last) in message


@pytest.mark.parametrize("count", [3, MANY])
@pytest.mark.parametrize(
    ("name", "value"), [("completion_window", "soon"), ("metadata", {"a": 1}), ("nothing", 1), ("webhook", {})]
)
def test_what_is_wrong_beside_the_inputs_is_named(count: int, name: str, value: object) -> None:
    param, _ = refusal(body(count) | {name: value})
    assert (param or "").split(".")[0] == name
