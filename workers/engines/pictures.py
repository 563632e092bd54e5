"""From numbers to files: pictures with what is needed to make them again, and small previews."""

from __future__ import annotations

import io
import json

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from schemas.base import JsonObject
from schemas.image import ImageFormat

Pixels = NDArray[np.uint8]
"""A picture: rows, columns, and red, green and blue from 0 to 255."""

RECIPE = "stoker"
"""Under this name a PNG holds, as JSON, what is needed to make it again; a JPEG holds the JSON as its comment."""
COMMENT_BYTES = 65_533
"""A JPEG's comment cannot be longer."""
PNG_EFFORT = 3
"""Of 9: a quarter of the time of the usual 6, for files that are a tenth larger."""
JPEG_QUALITY = 92
PREVIEW_QUALITY = 80
PREVIEW_SIDE = 128
PREVIEW_TYPE = ImageFormat.JPEG.content_type


def write_picture(pixels: Pixels, form: ImageFormat, recipe: JsonObject) -> bytes:
    """Return a file. A JPEG whose prompts do not fit into its comment goes without one."""
    file = io.BytesIO()
    if form is ImageFormat.PNG:
        info = PngInfo()
        info.add_text(RECIPE, json.dumps(recipe))
        Image.fromarray(pixels).save(file, "PNG", pnginfo=info, compress_level=PNG_EFFORT)
    else:
        said = json.dumps(recipe, ensure_ascii=False).encode()
        comment = {"comment": said} if len(said) <= COMMENT_BYTES else {}
        Image.fromarray(pixels).save(file, "JPEG", quality=JPEG_QUALITY, **comment)
    return file.getvalue()


def write_preview(pixels: Pixels) -> bytes:
    """Return a small file: latents are a fraction of their picture, so they are brought to a size one can look at."""
    picture, file = Image.fromarray(pixels), io.BytesIO()
    scale = PREVIEW_SIDE / max(picture.size)
    size = round(picture.width * scale), round(picture.height * scale)
    picture.resize((max(1, size[0]), max(1, size[1])), Image.Resampling.BICUBIC).save(
        file, "JPEG", quality=PREVIEW_QUALITY
    )
    return file.getvalue()
