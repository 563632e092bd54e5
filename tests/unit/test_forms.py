"""Forms come in chunks of any size, and whatever the chunks are, the pieces say the same."""

from itertools import pairwise

from hypothesis import assume, given
from hypothesis import strategies as st

from producer_api.forms import Field, FileStart, FormReader, Piece

BOUNDARY = "----xyz"
TRAPS = [b"\r\n", b"\r\n--", b"\r\n------xy", b"--", b"------xy", b"\r", b"\n", b"lines\n"]


def form(content: bytes, purpose: str) -> bytes:
    """A form as OpenAI's client writes it."""
    line = f"--{BOUNDARY}\r\n".encode()
    field = b'Content-Disposition: form-data; name="purpose"\r\n\r\n' + purpose.encode() + b"\r\n"
    start = b'Content-Disposition: form-data; name="file"; filename="a.jsonl"\r\nContent-Type: text/plain\r\n\r\n'
    return line + field + line + start + content + f"\r\n--{BOUNDARY}--\r\n".encode()


def read(chunks: list[bytes]) -> list[Piece]:
    """Read a whole form; neighbouring bytes are one piece."""
    reader, read_pieces = FormReader(f'multipart/form-data; boundary="{BOUNDARY}"'), list[Piece]()
    for chunk in chunks:
        for piece in reader.feed(chunk):
            last = read_pieces[-1] if read_pieces else None
            if isinstance(piece, bytes) and isinstance(last, bytes):
                read_pieces[-1] = last + piece
            else:
                read_pieces.append(piece)
    reader.end()
    return read_pieces


contents = st.lists(st.sampled_from(TRAPS) | st.binary(max_size=20), min_size=1).map(b"".join)


@given(contents, st.text(max_size=20), st.lists(st.integers(0, 400), max_size=12))
def test_chunks_do_not_matter(content: bytes, purpose: str, cuts: list[int]) -> None:
    assume(f"\r\n--{BOUNDARY}".encode() not in b"\r\n" + content)  # RFC 2046 forbids it
    whole = form(content, purpose)
    edges = [0, *sorted(cut % len(whole) for cut in cuts), len(whole)]
    chunks = [whole[start:end] for start, end in pairwise(edges)]
    expected: list[Piece] = [Field("purpose", purpose), FileStart("file", "a.jsonl")]
    assert read(chunks) == expected + ([content] if content else [])
