"""What a model can certainly not do with an input, whichever way the input comes."""

from __future__ import annotations

from schemas.catalog import Model
from schemas.embedding import EmbeddingInput, Truncate
from schemas.errors import ContextLengthError, InvalidError
from schemas.image import ImageInput
from schemas.text import TextInput
from tasks.images import check_image
from tasks.text import LONGEST_TOKEN_CHARACTERS, check_text

Input = TextInput | EmbeddingInput | ImageInput


def check_input(given: Input, model: Model) -> None:
    """Refuse what can be seen at once, with a sentence that names the field."""
    if isinstance(given, TextInput):
        check_text(given, model)
    if isinstance(given, ImageInput):
        check_image(given, model)
    if isinstance(given, EmbeddingInput):
        _check_embedding(given, model)


def _check_embedding(given: EmbeddingInput, model: Model) -> None:
    if given.dimensions is not None and given.dimensions not in model.dimensions:
        known = " or ".join(map(str, model.dimensions))
        made_for = f"makes vectors of {known} numbers" if known else "makes vectors of one length only"
        raise InvalidError(
            f"'{model.alias}' {made_for}, not of {given.dimensions}; leave 'dimensions' out or change it.",
            param="input.dimensions",
        )
    longest = model.context_length * LONGEST_TOKEN_CHARACTERS
    for index, text in enumerate(given.texts):
        if len(text) > longest and given.truncate is Truncate.ERROR:
            raise ContextLengthError(
                f"Text {index} (counted from 0) has {len(text):,} characters, which cannot fit the context of "
                f"'{model.alias}' ({model.context_length:,} tokens); shorten or split it, or send "
                '"truncate": "end" to embed its beginning.',
                param=f"input.texts.{index}",
            )
