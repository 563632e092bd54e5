"""JSON schemas of callers: what an engine may be asked to hold its words to, judged before anything is queued."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from schemas.base import JsonObject
from schemas.errors import InvalidError
from tasks.patterns import PatternError, written_out

CHARACTERS = 64 * 1024
DEPTH = 32
PROPERTIES = 500
CHOICES = 1000
PATTERN_CHARACTERS = 512
PATTERN_SIZE, PATTERNS_SIZE = 2_500, 5_000
"""Of one pattern, and of all in a schema, with repetitions written out: the time to read one grows with its square."""
REPEATS = 10_000
"""Grammars are compiled from schemas, and each of these makes them larger."""
SHOWN_CHARACTERS = 200

COUNTS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
DATA = ("enum", "const", "default", "examples")
MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
"""Under these are schemas by names that are the caller's own."""


def check_schemas(schemas: Mapping[str, JsonObject]) -> None:
    """Refuse schemas, by the names of their fields, that are none or would be too much for an engine."""
    left = CHARACTERS
    for param, schema in schemas.items():
        try:
            left -= len(json.dumps(schema, ensure_ascii=False, allow_nan=False))
        except ValueError:
            raise _refusal("holds NaN or Infinity, which JSON does not know", param) from None
        if left < 0:
            raise _refusal(f"is too long; all schemas together may have {CHARACTERS:,} characters", param)
        _Judge(schema, param).judge()
        try:
            Draft202012Validator.check_schema(schema)
        except SchemaError as error:
            said = error.message[:SHOWN_CHARACTERS]
            raise _refusal(f"is not a valid JSON schema: at {error.json_path}, {said}", param) from None


def _refusal(what: str, param: str) -> InvalidError:
    return InvalidError(f"The schema in '{param.rpartition('.')[2]}' {what}.", param=param)


@dataclass(slots=True)
class _Judge:
    """Walks through one schema and counts."""

    schema: JsonObject
    param: str
    properties: int = 0
    choices: int = 0
    patterns_size: int = 0

    def judge(self) -> None:
        for inner, depth in _schemas_in(self.schema):
            if depth > DEPTH:
                raise self._refusal(f"is nested deeper than {DEPTH} levels")
            self._judge_counts(inner)
            self._judge_reference(inner)
            patterns = [inner.get("pattern"), *_keys(inner.get("patternProperties"))]
            for pattern in patterns:
                if isinstance(pattern, str):
                    self._judge_pattern(pattern)

    def _judge_counts(self, inner: JsonObject) -> None:
        self.properties += len(_keys(inner.get("properties")))
        if self.properties > PROPERTIES:
            raise self._refusal(f"has more than {PROPERTIES:,} properties")
        self.choices += len(inner["enum"]) if isinstance(inner.get("enum"), list) else 0
        if self.choices > CHOICES:
            raise self._refusal(f"has more than {CHOICES:,} values to choose from")
        for name in COUNTS:
            count = inner.get(name)
            if isinstance(count, int | float) and count > REPEATS:
                raise self._refusal(f"says '{name}': {count:g}; at most {REPEATS:,} can be held to")

    def _judge_reference(self, inner: JsonObject) -> None:
        reference = inner.get("$ref")
        if isinstance(reference, str) and not self._leads_somewhere(reference):
            said = reference[:SHOWN_CHARACTERS]
            raise self._refusal(f"refers to '{said}', which is not in it; write references like '#/$defs/Name'")
        if isinstance(reference, str) and self._runs_in_a_circle(reference):
            said = reference[:SHOWN_CHARACTERS]
            raise self._refusal(f"refers to '{said}', which only leads back to itself; say what it holds")

    def _leads_somewhere(self, reference: str) -> bool:
        return self._at(reference) is not None

    def _runs_in_a_circle(self, reference: object) -> bool:
        """Say whether following it from reference to reference never ends."""
        seen = set[str]()
        while isinstance(reference, str) and reference not in seen:
            seen.add(reference)
            place = self._at(reference)
            reference = place.get("$ref") if isinstance(place, dict) else None
        return isinstance(reference, str)

    def _at(self, reference: str) -> Any:
        """Return what a reference leads to; nothing when that is not in the schema."""
        if not (reference == "#" or reference.startswith("#/")):
            return None
        place: Any = self.schema
        for step in reference.split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(place, dict) or name not in place:
                return None
            place = place[name]
        return place

    def _judge_pattern(self, pattern: str) -> None:
        shown = pattern[:SHOWN_CHARACTERS]
        if len(pattern) > PATTERN_CHARACTERS:
            raise self._refusal(f"has a pattern of {len(pattern):,} characters; at most {PATTERN_CHARACTERS} are read")
        try:
            size = written_out(pattern)
        except PatternError as error:
            raise self._refusal(f"has the pattern '{shown}', which cannot be read: {error}") from None
        if size > PATTERN_SIZE:
            raise self._refusal(
                f"has the pattern '{shown}', which is {size:,} long when its repetitions are written out; at most "
                f"{PATTERN_SIZE:,} can be held to: repeat less, or without a limit"
            )
        self.patterns_size += size
        if self.patterns_size > PATTERNS_SIZE:
            raise self._refusal(f"has patterns that are more than {PATTERNS_SIZE:,} long with repetitions written out")

    def _refusal(self, what: str) -> InvalidError:
        return _refusal(what, self.param)


def _schemas_in(schema: JsonObject) -> Iterator[tuple[JsonObject, int]]:
    """Yield a schema and all schemas within it, with how deep they lie."""
    waiting: list[tuple[Any, int, bool]] = [(schema, 1, False)]
    while waiting:
        value, depth, is_map = waiting.pop()
        if isinstance(value, dict):
            if not is_map:
                yield value, depth
            waiting += [
                (inner, depth + 1, name in MAPS and not is_map)
                for name, inner in value.items()
                if is_map or name not in DATA
            ]
        elif isinstance(value, list):
            waiting += [(inner, depth + 1, False) for inner in value]


def _keys(value: object) -> list[str]:
    return list(value) if isinstance(value, dict) else []
