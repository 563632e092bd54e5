"""Contact sheets: small pictures side by side in one PNG, with captions. The standard library is enough."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHUNK_HEAD, CHUNK_CRC = 8, 4
RGB_DEPTH, RGB_KIND = 8, 2
GAP = 8
PAPER, INK = b"\xf4\xf4\xf4", b"\x33\x33\x33"
DOTS_HIGH, DOT = 5, 2
CAPTION = DOTS_HIGH * DOT + GAP
# Each letter has five rows of three dots; a digit says which of a row's dots are ink.
SHAPES = """
25755 65656 34443 65556 74647 74644 34553 55755 72227 11152 55655 44447 57755 65555 25552 65644 25563 65655 34216 72222
55557 55552 55775 55255 55222 71247 75557 26227 61247 61216 55711 74616 34757 71222 75757 75711 00700 00002 02720 00000
"""
LETTERS = dict(zip("abcdefghijklmnopqrstuvwxyz0123456789-.+ ", SHAPES.split(), strict=True))


class PictureError(ValueError):
    """It is no PNG of the plain kind that is read here."""


@dataclass(frozen=True, slots=True)
class Picture:
    """Rows of red, green and blue bytes."""

    width: int
    rows: Sequence[bytes]


def read_png(content: bytes) -> Picture:
    """Read a PNG with eight bits for each of red, green and blue, which is what Stoker's workers write."""
    if not content.startswith(SIGNATURE):
        raise PictureError("it is no PNG")
    head, packed, at = b"", b"", len(SIGNATURE)
    while at + CHUNK_HEAD <= len(content):
        length, name = struct.unpack(">I4s", content[at : at + CHUNK_HEAD])
        body = content[at + CHUNK_HEAD : at + CHUNK_HEAD + length]
        head, packed = (body if name == b"IHDR" else head), packed + (body if name == b"IDAT" else b"")
        at += CHUNK_HEAD + length + CHUNK_CRC
    width, height, depth, kind, _, _, interlaced = struct.unpack(">IIBBBBB", head)
    if (depth, kind, interlaced) != (RGB_DEPTH, RGB_KIND, 0):
        raise PictureError("it is not plain RGB")
    return Picture(width, _unfilter(zlib.decompress(packed), width * 3, height))


def _unfilter(packed: bytes, length: int, height: int) -> list[bytes]:
    """Undo what a PNG does to its rows so that they pack better."""
    rows: list[bytes] = []
    above = bytes(length)
    for start in range(0, height * (length + 1), length + 1):
        row = bytearray(packed[start + 1 : start + 1 + length])
        predict = PREDICTIONS[packed[start]]
        for index, value in enumerate(row):
            left, corner = (row[index - 3], above[index - 3]) if index >= 3 else (0, 0)  # noqa: PLR2004 - one pixel
            row[index] = (value + predict(left, above[index], corner)) & 0xFF
        above = bytes(row)
        rows.append(above)
    return rows


def _paeth(left: int, above: int, corner: int) -> int:
    """Return the neighbour that is nearest to left + above - corner."""
    guess = left + above - corner
    return min((left, above, corner), key=lambda one: abs(guess - one))


PREDICTIONS = (
    lambda _left, _above, _corner: 0,
    lambda left, _above, _corner: left,
    lambda _left, above, _corner: above,
    lambda left, above, _corner: (left + above) // 2,
    _paeth,
)
"""How each filter of a PNG guesses a byte from its neighbours."""


def write_png(picture: Picture) -> bytes:
    """Return a PNG."""
    head = struct.pack(">IIBBBBB", picture.width, len(picture.rows), RGB_DEPTH, RGB_KIND, 0, 0, 0)
    same = bytes(picture.width * 3)  # as the row above, which packs best
    rows = zip([b"", *picture.rows], picture.rows, strict=False)
    packed = zlib.compress(b"".join(b"\2" + same if row == above else b"\0" + row for above, row in rows), 9)
    return SIGNATURE + _chunk(b"IHDR", head) + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def lay_out(captions: Sequence[str], rows: Sequence[Sequence[Picture]], scale: int = 2) -> Picture:
    """Return pictures of one size in rows, each as large as `scale` says, with a caption above each column."""
    side = rows[0][0].width * scale
    width = GAP + (side + GAP) * len(captions)
    lines = [PAPER * width] * GAP
    lines += _join([_write(caption, side) for caption in captions], DOTS_HIGH * DOT)
    lines += [PAPER * width] * GAP
    for row in rows:
        lines += _join([_enlarge(picture, scale) for picture in row], len(row[0].rows) * scale)
        lines += [PAPER * width] * GAP
    return Picture(width, lines)


def _join(columns: Sequence[Sequence[bytes]], height: int) -> list[bytes]:
    gap = PAPER * GAP
    return [gap + b"".join(column[line] + gap for column in columns) for line in range(height)]


def _enlarge(picture: Picture, scale: int) -> list[bytes]:
    wide = [b"".join(row[start : start + 3] * scale for start in range(0, len(row), 3)) for row in picture.rows]
    return [row for row in wide for _ in range(scale)]


def _write(caption: str, width: int) -> list[bytes]:
    """Return a caption as lines of pixels, cut where there is no more room."""
    lines = []
    for line in range(DOTS_HIGH):
        dots = "".join(f"{int(LETTERS.get(letter, LETTERS['.'])[line]):03b}0" for letter in caption.lower())
        pixels = b"".join((INK if dot == "1" else PAPER) * DOT for dot in dots)[: width * 3]
        lines += [pixels + PAPER * (width - len(pixels) // 3)] * DOT
    return lines
