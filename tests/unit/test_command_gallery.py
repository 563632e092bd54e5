"""The demo's pictures: read, laid out side by side with captions, and written, without a library for pictures."""

import io
import struct
import zlib
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from PIL import Image

from stoker.client import Job, Model, Stoker
from stoker.commands.gallery import NONE, PROMPTS, Gallery
from stoker.commands.sheet import CAPTION, GAP, LETTERS, Picture, PictureError, lay_out, read_png, write_png

SIDE = 12


def noise(mode: str = "RGB", side: int = SIDE) -> Image.Image:
    numbers = np.random.default_rng(7).integers(0, 255, (side, side, len(mode)), dtype=np.uint8)
    return Image.fromarray(numbers.squeeze())


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def filtered(kind: int) -> bytes:
    """A PNG of two rows, each with this filter; the differences count from one."""
    rows = b"".join(bytes([kind, *range(1 + row * 9, 10 + row * 9)]) for row in range(2))
    head = struct.pack(">IIBBBBB", 3, 2, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


def as_image(picture: Picture) -> Image.Image:
    return Image.frombytes("RGB", (picture.width, len(picture.rows)), b"".join(picture.rows))


@pytest.mark.parametrize("kind", range(5))
def test_every_filter_is_undone(kind: int) -> None:
    content = filtered(kind)
    assert as_image(read_png(content)).tobytes() == Image.open(io.BytesIO(content)).tobytes()


def test_what_is_written_can_be_read_by_others_and_by_us() -> None:
    image = noise()
    read = read_png(png(image))
    assert as_image(read).tobytes() == image.tobytes()
    enlarged = lay_out(["a"], [[read]], scale=3)
    written = write_png(enlarged)
    assert read_png(written) == enlarged
    assert Image.open(io.BytesIO(written)).tobytes() == b"".join(enlarged.rows)


@pytest.mark.parametrize("content", [b"GIF89a", png(noise("L")), png(noise("RGBA"))])
def test_other_pictures_are_refused(content: bytes) -> None:
    with pytest.raises(PictureError):
        read_png(content)


def test_pictures_stand_under_their_captions() -> None:
    red, blue = (read_png(png(Image.new("RGB", (SIDE, SIDE), colour))) for colour in ("red", "blue"))
    sheet = as_image(lay_out(["one", "a very long caption that is cut"], [[red, blue], [blue, red]]))
    side = SIDE * 2
    assert sheet.size == (GAP + 2 * (side + GAP), CAPTION + GAP + 2 * (side + GAP))
    centres = [
        [
            sheet.getpixel((GAP + side // 2 + x * (side + GAP), GAP + CAPTION + side // 2 + y * (side + GAP)))
            for x in (0, 1)
        ]
        for y in (0, 1)
    ]
    assert centres == [[(255, 0, 0), (0, 0, 255)], [(0, 0, 255), (255, 0, 0)]]


def test_every_letter_has_a_shape_of_its_own() -> None:
    shapes = [shape for letter, shape in LETTERS.items() if letter not in "o0"]
    assert len(set(shapes)) == len(shapes)
    assert {len(shape) for shape in LETTERS.values()} == {5}


class Scripted:
    """A client whose jobs are as asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, object]]] = []

    def submit(self, kind: str, model: str, given: dict[str, object]) -> Job:
        self.asked.append((kind, model, given))
        return Job({"id": f"job_{len(self.asked)}", "artifacts": [{"name": "image-0.png"}]})

    def wait(self, job: Job, _: float) -> Job:
        return job

    def download(self, _: object) -> bytes:
        return png(noise())


def test_every_prompt_is_drawn_in_every_manner(tmp_path: Path) -> None:
    client = Scripted()
    model = Model({"id": "sketch", "adapters": [{"id": "night"}, {"id": "gold"}]})
    gallery = Gallery(cast("Stoker", client), model)
    assert list(gallery.manners) == [NONE, "night 0.5", "night", "gold"]
    sheet = gallery.hang(gallery.draw(10), tmp_path)
    assert len(client.asked) == len(PROMPTS) * 4
    assert {str(given["seed"]) for _, _, given in client.asked} == {"7"}
    assert sheet == tmp_path / "sheet.png"
    assert (tmp_path / "a-red-circle-night-0-5.png").read_bytes() == png(noise())
    assert len(list(tmp_path.iterdir())) == len(client.asked) + 1
