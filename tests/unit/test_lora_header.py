"""The head of an adapter's file: read from any pieces of it, and refused with a sentence when it is not right."""

import io
import pickle
import struct
import zipfile
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import InvalidError
from tasks.loras.header import HEADER_BYTES, TENSORS_LIMIT, Header, HeaderReader, Tensor
from tests.safetensors_files import file_of, image_lora, lines, text_lora, weights_file

LINE: dict[str, Any] = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


def read(content: bytes, piece: int = 1000) -> Header:
    """Read a whole file as it comes over the wire."""
    reader = HeaderReader()
    for begin in range(0, len(content), piece):
        reader.feed(content[begin : begin + piece])
    return reader.finish(len(content))


def refusal(content: bytes, piece: int = 1000) -> str:
    with pytest.raises(InvalidError) as refused:
        read(content, piece)
    assert refused.value.param == "file"
    return refused.value.message


def attempt(content: bytes, piece: int = 1000) -> Header | str:
    """The head of a file, or why there is none."""
    try:
        return read(content, piece)
    except InvalidError as error:
        return error.message


@pytest.mark.parametrize("piece", [1, 7, 100, 10_000])
def test_a_head_is_read_however_it_is_cut(piece: int) -> None:
    content = weights_file(text_lora(), "BF16", metadata={"format": "pt"})
    header = read(content, piece)
    assert dict(header.tensors) == {name: Tensor("BF16", shape) for name, shape in text_lora().items()}
    assert (header.metadata, header.file_bytes) == ({"format": "pt"}, len(content))


def test_no_more_than_the_head_is_kept() -> None:
    reader = HeaderReader()
    reader.feed(weights_file(image_lora()))
    first = reader.header
    reader.feed(b"x" * 10_000)
    assert first is not None
    assert reader.header is first


def zipped() -> bytes:
    """Ten megabytes of nothing in a few kilobytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10 * 2**20))
    return buffer.getvalue()


def changed(**changes: Any) -> bytes:
    """A file of one tensor whose line was changed."""
    return file_of({"a": {name: value for name, value in {**LINE, **changes}.items() if value is not None}}, bytes(4))


BAD: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "ends before its head"),
    "a few bytes": (b"12345", "ends before its head"),
    "a zip bomb": (zipped(), "zip archive or a pickle of torch.save"),
    "a pickle": (pickle.dumps({"a": [1] * 100}), "is a Python pickle, which is never opened here"),
    "an old pickle": (pickle.dumps({"a": [1] * 100}, protocol=2), "is a Python pickle"),
    "a text": (b"Dear Sir or Madam, this is a letter.", "does not begin as a safetensors file"),
    "a head without end": (struct.pack("<Q", 2**63) + b"{}", "does not begin as a safetensors file"),
    "a head that is too long": (struct.pack("<Q", HEADER_BYTES + 1) + b"{}", "does not begin as a safetensors file"),
    "a head that is not there": (struct.pack("<Q", 5000) + b"{}", "ends before its head"),
    "no JSON": (file_of(b"{'a': 1}"), "is not JSON"),
    "deep JSON": (file_of(b"[" * 100_000 + b"]" * 100_000), "is not JSON"),
    "deep JSON in a name": (file_of(b'{"a":' * 5000 + b"1" + b"}" * 5000), "is not JSON"),
    "half a character": (file_of(b'{"\xff": 1}'), "is not JSON"),
    "a list": (file_of([LINE]), "is not a JSON object"),
    "no tensors": (file_of({}), "has 0 tensors"),
    "only metadata": (file_of({"__metadata__": {"a": "b"}}), "has 0 tensors"),
    "metadata of numbers": (file_of({"__metadata__": {"a": 1}, "a": LINE}, bytes(4)), "not a table of strings"),
    "metadata that is a list": (file_of({"__metadata__": [], "a": LINE}, bytes(4)), "not a table of strings"),
    "a line that is a number": (file_of({"a": 1}), "has no 'data_offsets'"),
    "no offsets": (changed(data_offsets=None), "has no 'data_offsets'"),
    "one offset": (changed(data_offsets=[4]), "has no 'data_offsets'"),
    "offsets that are text": (changed(data_offsets=["0", "4"]), "has no 'data_offsets'"),
    "offsets that are true": (changed(data_offsets=[False, True]), "has no 'data_offsets'"),
    "offsets backwards": (changed(data_offsets=[4, 0]), "has no 'data_offsets'"),
    "a negative offset": (changed(data_offsets=[-4, 0]), "has no 'data_offsets'"),
    "a hole": (changed(data_offsets=[4, 8]), "does not begin where"),
    "an unknown type": (changed(dtype="F8_E4M3"), "has the type 'F8_E4M3'"),
    "whole numbers": (changed(dtype="I64", data_offsets=[0, 8]), "has the type 'I64'"),
    "a type that is a list": (changed(dtype=["F32"]), "has the type"),
    "no shape": (changed(shape=None), "no usable name and shape"),
    "a shape of text": (changed(shape=["1"]), "no usable name and shape"),
    "a negative shape": (changed(shape=[-1]), "no usable name and shape"),
    "a shape of many dimensions": (changed(shape=[1] * 100), "no usable name and shape"),
    "a shape that is too large": (changed(shape=[2**40, 2**40]), "more or fewer bytes than its shape"),
    "a shape that is too small": (changed(shape=[0]), "more or fewer bytes than its shape"),
    "a truncated file": (weights_file(text_lora())[:-1], "is cut off or damaged"),
    "a file with something behind it": (weights_file(text_lora()) + b"x", "is cut off or damaged"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_safetensors_file_is_refused_and_called_by_its_name(name: str) -> None:
    content, said = BAD[name]
    message = refusal(content)
    assert said in message, message
    assert len(message) < 400


def test_two_tensors_in_one_place_are_refused() -> None:
    assert "does not begin where" in refusal(file_of({"a": LINE, "b": LINE}, bytes(4)))


def test_many_tensors_are_refused() -> None:
    shapes = {f"t{number}": (0,) for number in range(TENSORS_LIMIT + 1)}
    assert f"has {TENSORS_LIMIT + 1:,} tensors" in refusal(file_of(lines(shapes)))


def test_a_long_name_is_refused_and_not_repeated() -> None:
    message = refusal(file_of({"x" * 10_000: LINE}, bytes(4)))
    assert "no usable name" in message
    assert len(message) < 400


def test_a_pickle_is_refused_at_its_first_bytes() -> None:
    reader = HeaderReader()
    with pytest.raises(InvalidError, match="pickle"):
        reader.feed(pickle.dumps(list(range(1000)))[:8])


@given(st.binary(max_size=400), st.integers(1, 50))
def test_no_bytes_do_anything_but_fail_cleanly(content: bytes, piece: int) -> None:
    found = attempt(content, piece)
    assert isinstance(found, Header) or len(found) < 400


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
LINES = st.fixed_dictionaries(
    {}, optional={"dtype": JSON | st.just("F16"), "shape": JSON, "data_offsets": JSON | st.lists(st.integers(0, 20))}
)


@given(st.dictionaries(st.text(max_size=5), JSON | LINES, max_size=4), st.binary(max_size=20))
def test_no_head_does_anything_but_fail_cleanly(head: dict[str, Any], data: bytes) -> None:
    content = file_of(head, data)
    found = attempt(content)
    assert found.file_bytes == len(content) if isinstance(found, Header) else len(found) < 1000


SHAPES = st.dictionaries(st.text(min_size=1, max_size=20), st.lists(st.integers(0, 4), max_size=4).map(tuple))


@given(SHAPES.filter(lambda shapes: shapes and "__metadata__" not in shapes), st.sampled_from(["F32", "F16", "BF16"]))
def test_every_right_file_is_read(shapes: dict[str, tuple[int, ...]], dtype: str) -> None:
    found = read(weights_file(shapes, dtype))
    assert {name: tensor.shape for name, tensor in found.tensors.items()} == shapes
