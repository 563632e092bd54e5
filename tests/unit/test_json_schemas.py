"""Schemas that answers are held to: what is let through, and what is refused with its reason."""

from typing import Any

import pytest

from schemas.base import JsonObject
from schemas.errors import InvalidError
from tasks.json_schemas import CHARACTERS, CHOICES, DEPTH, PATTERN_CHARACTERS, PROPERTIES, REPEATS, check_schemas
from tests import refusals

FIELD = "input.response_format.json_schema.schema"


def refusal(schema: JsonObject) -> str:
    with pytest.raises(InvalidError) as refused:
        check_schemas({FIELD: schema})
    assert refused.value.param == FIELD
    assert len(refused.value.message) < 600
    return refused.value.message.removeprefix("The schema in 'schema' ")


def nested(depth: int) -> JsonObject:
    schema: JsonObject = {"type": "string"}
    for _ in range(depth - 1):
        schema = {"not": schema}
    return schema


def properties(count: int) -> JsonObject:
    return {"properties": {f"p{number}": {"type": "string"} for number in range(count)}}


GOOD: list[JsonObject] = [
    {},
    {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    {"$defs": {"node": {"properties": {"next": {"$ref": "#/$defs/node"}}}}, "$ref": "#/$defs/node"},
    {"properties": {"all": {"$ref": "#"}}},
    {"$defs": {"a/b~c": {"type": "null"}}, "$ref": "#/$defs/a~1b~0c"},
    {"type": "string", "pattern": r"^\d{3}-[가-힣]{2,8}$"},
    {"type": "string", "pattern": r"^([a-z]{1,30} ){1,30}(x{2,}|y*|z+?)(?P<all>[^\n]{0,1000})$"},
    {"properties": {"pattern": {"type": "string"}, "enum": {"type": "array"}, "$ref": {"type": "string"}}},
    {"const": {"pattern": "(", "$ref": "nowhere"}, "default": {"maxLength": 10**9}, "examples": [{"pattern": "["}]},
    {"enum": ["x"] * CHOICES},
    {"maxLength": REPEATS, "pattern": "x" * PATTERN_CHARACTERS},
    nested(DEPTH),
    properties(PROPERTIES),
]


@pytest.mark.parametrize("number", range(len(GOOD)))
def test_a_schema_of_ordinary_size_is_let_through(number: int) -> None:
    assert refusals.refusal(check_schemas, {FIELD: GOOD[number]}) is None


BAD: dict[str, tuple[JsonObject, str]] = {
    "a type that there is none of": (
        {"properties": {"a": {"type": "strin"}}},
        "is not a valid JSON schema: at $.properties.a.type, 'strin' is not valid",
    ),
    "a list of properties": ({"properties": ["a"]}, "is not a valid JSON schema: at $.properties"),
    "a required that is no list": ({"required": "a"}, "is not a valid JSON schema: at $.required"),
    "not a number": ({"maximum": float("nan")}, "holds NaN or Infinity"),
    "too deep": (nested(DEPTH + 1), f"is nested deeper than {DEPTH} levels"),
    "too many properties": (properties(PROPERTIES + 1), f"has more than {PROPERTIES} properties"),
    "too many choices": ({"enum": ["x"] * (CHOICES + 1)}, "has more than 1,000 values to choose from"),
    "choices in many places": (
        {"properties": {str(number): {"enum": ["x"] * 300} for number in range(4)}},
        "has more than 1,000 values",
    ),
    "too long": ({"description": "x" * CHARACTERS}, "is too long; all schemas together may have 65,536 characters"),
    "a count that grammars explode on": (
        {"items": {"maxItems": REPEATS + 1}},
        "says 'maxItems': 10001; at most 10,000",
    ),
    "a pattern that is none": ({"items": {"pattern": "("}}, "has the pattern '(', which cannot be read: missing )"),
    "a look ahead": ({"pattern": "^(a|(?=b))?$"}, "no answer can be held to what looks ahead or behind"),
    "a look behind": ({"patternProperties": {"(?<!b)a": {}}}, "no answer can be held to what looks ahead or behind"),
    "a name's pattern that is none": ({"patternProperties": {"[": {}}}, "has the pattern '[', which cannot be read"),
    "a property called default": ({"properties": {"default": {"pattern": "("}}}, "has the pattern '('"),
    "an endless pattern": ({"pattern": "x" * 513}, "has a pattern of 513 characters; at most 512 are read"),
    "a pattern that repeats": (
        {"pattern": "(a{1,20000})"},
        "has the pattern '(a{1,20000})', which is 20,000 long when its repetitions are written out; at most 2,500",
    ),
    "a pattern that repeats at least": ({"pattern": "a{3000,}"}, "which is 3,000 long"),
    "alternatives that repeat": ({"pattern": "^(a|b|ab){5000}c$"}, "can be held to: repeat less, or without a limit"),
    "repetitions that repeat": ({"pattern": "^(([a-z]{1,60}){50})*$"}, "which is 3,002 long"),
    "many patterns that repeat": (
        {"properties": {name: {"pattern": "a{2000}"} for name in "abc"}},
        "has patterns that are more than 5,000 long with repetitions written out",
    ),
    "a reference to nothing": ({"$ref": "#/$defs/Nothing"}, "refers to '#/$defs/Nothing', which is not in it"),
    "a reference to itself": ({"$ref": "#"}, "refers to '#', which only leads back to itself"),
    "references in a circle": (
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "items": {"$ref": "#/$defs/a"}},
        "which only leads back to itself",
    ),
    "a reference to another host": ({"$ref": "http://127.0.0.1/x"}, "write references like '#/$defs/Name'"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_schema_that_is_none_or_too_much_is_refused_with_its_reason(name: str) -> None:
    schema, reason = BAD[name]
    assert reason in refusal(schema)


def test_all_schemas_share_one_allowance() -> None:
    half: dict[str, Any] = {"description": "x" * (CHARACTERS // 2)}
    with pytest.raises(InvalidError, match="The schema in 'parameters' is too long"):
        check_schemas({"input.tools.0.function.parameters": half, "input.tools.1.function.parameters": half})
