"""What the fake engine answers: a pure function of kind, input and seed, whatever the attempt and the worker."""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
import zlib
from dataclasses import dataclass

from schemas.base import JsonObject
from schemas.embedding import EmbeddingInput
from schemas.events import EngineEvent, Finished, Preview, Produced, ProgressMade, Token, ToolCallPiece
from schemas.image import ImageInput, ImageMade, SafetyMode, SafetyReport
from schemas.jobs import Kind
from schemas.text import TextInput

LONGEST_TEXT_TOKENS = 128
DIMENSIONS = 32
TILE_PIXELS = 8
SIDE = 64
STEPS = 8
PREVIEW_EVERY = 4
WORDS = (
    "and so the small light moved along its road until morning came with rain over green hills while "
    "somebody sang about rivers stones open doors warm bread quiet machines long letters blue paper boats"
)
VOCABULARY = WORDS.split()
WORD = re.compile(r"fake:([a-z-]+)(?:=(\d{1,9}))?")


@dataclass(frozen=True, slots=True)
class Script:
    """What a run will do: how much there is to read, then what each step gives; the last step ends with Finished."""

    prefill_tokens: int
    steps: list[list[EngineEvent]]
    orders: dict[str, int]
    """The `fake:` words of the prompt, with their numbers."""


def expected_output(kind: str, given: JsonObject) -> JsonObject:
    """Return the only right `output` of a job with this input."""
    finished = _last(write_script(kind, given))
    return finished.output


def expected_artifacts(kind: str, given: JsonObject) -> dict[str, bytes]:
    """Return the only right bytes of the files that the engine itself makes for this input, by name."""
    events = (event for step in write_script(kind, given).steps for event in step)
    return {event.name: event.content for event in events if isinstance(event, Produced)}


def write_script(kind: str, given: JsonObject) -> Script:
    """Plan a run."""
    if kind == Kind.TEXT:
        return _text_script(TextInput.model_validate(given))
    if kind == Kind.IMAGE:
        return _image_script(ImageInput.model_validate(given))
    return _embedding_script(EmbeddingInput.model_validate(given))


def _last(script: Script) -> Finished:
    finished = script.steps[-1][-1]
    if not isinstance(finished, Finished):
        raise TypeError("a script must end with Finished")
    return finished


def _orders(text: str) -> dict[str, int]:
    return {name: int(number or 0) for name, number in WORD.findall(text)}


def _text_script(given: TextInput) -> Script:
    prompt = given.text
    orders = _orders(prompt)
    said = prompt.split()
    wanted = orders.get("tokens") or LONGEST_TEXT_TOKENS
    count = min(wanted, given.max_tokens or wanted)
    key = f"{given.seed}/{prompt}"
    answers = [_pieces(said, count, f"{key}/{choice}" if choice else key) for choice in range(given.n)]
    steps: list[list[EngineEvent]] = [
        [Token(pieces[step], choice) for choice, pieces in enumerate(answers)] for step in range(count)
    ]
    reason = "length" if count == given.max_tokens else "stop"
    choices: list[JsonObject] = [
        {"index": choice, "text": "".join(pieces), "finish_reason": reason} for choice, pieces in enumerate(answers)
    ]
    if "tool" in orders and given.tools:
        steps = [_call(given, choice) for choice in choices]
    output = {name: value for name, value in choices[0].items() if name != "index"}
    steps[-1].append(
        Finished(
            {**output, "choices": choices} if given.n > 1 else output,
            usage={"prompt_tokens": len(said), "completion_tokens": count * given.n},
        )
    )
    return Script(len(said), steps, orders)


def _pieces(said: list[str], count: int, key: str) -> list[str]:
    noise = _noise(key, max(0, count - len(said)))
    words = [*said[:count], *(VOCABULARY[byte % len(VOCABULARY)] for byte in noise)]
    return [word if index == 0 else f" {word}" for index, word in enumerate(words)]


def _call(given: TextInput, choice: JsonObject) -> list[EngineEvent]:
    """Make a choice call the first tool with what it would have said, in two pieces."""
    name, call_id = given.tools[0].function.name, f"call_{choice['index']}"
    begin, end = '{"said": ', json.dumps(choice["text"], ensure_ascii=False) + "}"
    function = {"name": name, "arguments": begin + end}
    choice |= {
        "text": "",
        "finish_reason": "tool_calls",
        "tool_calls": [{"id": call_id, "type": "function", "function": function}],
    }
    return [
        ToolCallPiece(0, begin, id=call_id, name=name, choice=choice["index"]),
        ToolCallPiece(0, end, choice=choice["index"]),
    ]


def _image_script(given: ImageInput) -> Script:
    width, height, count = given.width or SIDE, given.height or SIDE, given.steps or STEPS
    images = [
        ImageMade(name=f"image-{index}.png", seed=(given.seed or 0) + index, width=width, height=height)
        for index in range(given.n)
    ]
    orders = _orders(given.prompt)
    is_guarded = given.safety_mode is SafetyMode.BLOCK
    if "unsafe" in orders and is_guarded:
        images[0] |= {"name": None, "blocked": "the prompt says fake:unsafe"}
    key = "/".join((given.prompt, *(f"{use.id}:{use.strength}" for use in given.adapters)))
    produced: list[EngineEvent] = [
        Produced(image["name"], "image/png", draw(width, height, f"{image['seed']}/{key}"))
        for image in images
        if image["name"]
    ]
    preview = Preview(draw(TILE_PIXELS, TILE_PIXELS, key), "image/png")
    steps: list[list[EngineEvent]] = [[ProgressMade((index + 1) / count, "denoise")] for index in range(count)]
    for step in steps[PREVIEW_EVERY - 1 : -1 : PREVIEW_EVERY]:
        step.append(preview)
    safety = SafetyReport(
        mode=SafetyMode.BLOCK if is_guarded else SafetyMode.OFF,
        checker="fake" if is_guarded else None,
        blocked=given.n - len(produced),
    )
    steps[-1] += [*produced, Finished({"images": images, "safety": safety}, usage={"images": given.n})]
    return Script(len(given.prompt.split()), steps, orders)


def _embedding_script(given: EmbeddingInput) -> Script:
    tokens = sum(len(text.split()) for text in given.texts)
    output = {"embeddings": [_vector(text) for text in given.texts], "dimensions": DIMENSIONS}
    return Script(tokens, [[Finished(output, usage={"prompt_tokens": tokens})]], _orders(given.texts[0]))


def _noise(key: str, length: int) -> bytes:
    return hashlib.shake_128(key.encode()).digest(length)


def _vector(text: str) -> list[float]:
    numbers = [number - 127.5 for number in _noise(text, DIMENSIONS)]
    norm = math.sqrt(sum(number * number for number in numbers))
    return [round(number / norm, 6) for number in numbers]


def draw(width: int, height: int, key: str) -> bytes:
    """Return a small PNG of coloured tiles."""
    columns, rows = math.ceil(width / TILE_PIXELS), math.ceil(height / TILE_PIXELS)
    colours = _noise(key, columns * rows * 3)
    lines = []
    for row in range(rows):
        tiles = colours[row * columns * 3 : (row + 1) * columns * 3]
        line = b"".join(tiles[start : start + 3] * TILE_PIXELS for start in range(0, len(tiles), 3))
        lines.append((b"\0" + line[: width * 3]) * TILE_PIXELS)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(b"".join(lines)[: height * (1 + width * 3)], 6)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
