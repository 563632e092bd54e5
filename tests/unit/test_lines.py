"""What a batch's file may hold: good lines come through in order, every flaw is named with its line."""

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.batches import Endpoint
from tasks import lines
from tasks.lines import FLAWS, Inspection, split_lines

LINE = {"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {"model": "minilm", "input": "x"}}


def line(**changes: Any) -> bytes:
    """A good line with some fields changed; None takes a field out."""
    return json.dumps({name: value for name, value in {**LINE, **changes}.items() if value is not None}).encode()


def inspect(content: bytes, max_lines: int = 1000) -> tuple[list[bytes], Inspection]:
    """What comes through, and what was found."""
    inspection = Inspection(Endpoint.EMBEDDINGS, max_lines)
    return [line for line, _ in inspection.look(split_lines(io.BytesIO(content)))], inspection


def test_good_lines_come_through_in_order() -> None:
    good = [line(custom_id=f"line {number}") for number in range(5)]
    passed, inspection = inspect(b"\n".join(good))
    assert passed == good
    assert (inspection.total, inspection.flaws) == (5, [])


@pytest.mark.parametrize(
    "content",
    [line() + b"\n", line() + b"\r\n", b"\xef\xbb\xbf" + line(), b"\n\n" + line() + b"\n  \r\n\n"],
    ids=["a last end", "Windows' ends", "a byte order mark", "empty lines"],
)
def test_how_editors_save_files_does_not_matter(content: bytes) -> None:
    passed, inspection = inspect(content)
    assert passed == [line()]
    assert inspection.flaws == []


FLAWED = {
    "no JSON": (b"{", "invalid_json_line", None, "not valid JSON"),
    "no object": (b"[1]", "invalid_json_line", None, "not a JSON object"),
    "bad UTF-8": (line(custom_id="xx").replace(b"xx", b"\xff\xfe"), "invalid_json_line", None, "not text in UTF-8"),
    "UTF-16": (line().decode().encode("utf-16-le"), "invalid_json_line", None, "not valid JSON"),
    "UTF-16 with its mark": (line().decode().encode("utf-16"), "invalid_json_line", None, "not text in UTF-8"),
    "two objects": (line() + line(), "invalid_json_line", None, f"(trailing characters at column {len(line()) + 1})"),
    "deep JSON": (b'{"body":' * 100_000, "invalid_json_line", None, "recursion"),
    "no custom_id": (line(custom_id=None), "missing_field", "custom_id", "'custom_id' is missing"),
    "an empty custom_id": (line(custom_id=""), "invalid_field", "custom_id", "at least 1 character"),
    "a number as custom_id": (line(custom_id=7), "invalid_field", "custom_id", "valid string"),
    "a long custom_id": (line(custom_id="x" * 513), "invalid_field", "custom_id", "at most 512"),
    "another method": (line(method="GET"), "invalid_field", "method", "'POST'"),
    "an unknown url": (line(url="/v1/audio"), "invalid_field", "url", "/v1/chat/completions"),
    "another endpoint": (line(url="/v1/chat/completions"), "mismatched_url", "url", "one batch for each"),
    "no body": (line(body=None), "missing_field", "body", "'body' is missing"),
    "a body that is text": (line(body="x"), "invalid_field", "body", "should be an object"),
    "an unknown field": (line(model="minilm"), "unknown_field", "model", "put it into 'body'"),
}


@pytest.mark.parametrize("name", FLAWED)
def test_a_flaw_is_named_with_its_line(name: str) -> None:
    flawed, code, param, sentence = FLAWED[name]
    passed, inspection = inspect(b"\n".join([line(custom_id="first"), b"", flawed, line(custom_id="last")]))
    [flaw] = inspection.flaws
    assert (flaw.code, flaw.line, flaw.param) == (code, 3, param), flaw
    assert sentence in flaw.message
    assert passed == [line(custom_id="first"), line(custom_id="last")]


def test_a_double_names_both_lines() -> None:
    _, inspection = inspect(b"\n".join([line(), line(custom_id="b"), line()]))
    [flaw] = inspection.flaws
    assert (flaw.code, flaw.line) == ("duplicate_custom_id", 3)
    assert "'a' is on line 1 already" in flaw.message


def test_a_report_has_a_hundred_flaws_and_reads_no_further() -> None:
    _, inspection = inspect(b"{\n" * 500)
    assert len(inspection.flaws) == FLAWS
    assert inspection.flaws[-1].line == FLAWS


def test_too_many_lines_are_refused_and_just_enough_are_not() -> None:
    content = b"\n".join(line(custom_id=str(number)) for number in range(10))
    assert inspect(content, 10)[1].flaws == []
    passed, inspection = inspect(content, 9)
    [flaw] = inspection.flaws
    assert (len(passed), flaw.code, flaw.line) == (9, "too_many_lines", None)


def test_a_file_without_lines_is_no_batch() -> None:
    assert [flaw.code for flaw in inspect(b"\n \n")[1].flaws] == ["empty_file"]
    assert [flaw.code for flaw in inspect(b"")[1].flaws] == ["empty_file"]


def test_an_endless_line_is_skipped_without_being_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "PIECE_BYTES", 10)
    content = io.BytesIO(b"short\n" + b"x" * 1000 + b"\nafter\n" + b"y" * 1000)
    assert list(split_lines(content, 50)) == [b"short", None, b"after", None]
    assert list(split_lines(io.BytesIO(b"z" * 51 + b"\n"), 50)) == [None]
    inspection = Inspection(Endpoint.EMBEDDINGS, 10)
    assert [good for good, _ in inspection.look(iter([line(), None]))] == [line()]
    assert [(flaw.code, flaw.line) for flaw in inspection.flaws] == [("line_too_long", 2)]


@given(st.lists(st.binary(max_size=12).map(lambda text: text.replace(b"\n", b"")), max_size=20), st.integers(1, 20))
def test_pieces_do_not_matter(written: list[bytes], piece_bytes: int) -> None:
    content = b"".join(one + b"\n" for one in written)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "PIECE_BYTES", piece_bytes)
        found = list(split_lines(io.BytesIO(b"first\n" + content)))
    assert found == [b"first", *(one.removesuffix(b"\r") for one in written)]
