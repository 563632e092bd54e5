"""Multipart forms as they arrive: fields whole, files piece by piece. Nothing is kept: a form may have any size."""

from __future__ import annotations

from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from schemas.errors import MalformedError

FIELD_BYTES = 4096
FIELDS = 20
NO_FORM = "Send a form: 'Content-Type: multipart/form-data' with a boundary, as `curl -F` and OpenAI's clients do."
BROKEN = "The multipart form is broken or incomplete; send it again, whole."
TOO_MUCH = f"The form has more than {FIELDS} fields, or one of more than {FIELD_BYTES} bytes; send less."


@dataclass(frozen=True, slots=True)
class Field:
    """A field with its whole value."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class FileStart:
    """A file begins; the bytes that follow are its content."""

    name: str
    filename: str


Piece = Field | FileStart | bytes


class FormReader:
    """Turns the bytes of a form into its pieces, in their order."""

    def __init__(self, content_type: str) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise MalformedError(NO_FORM)
        self._pieces: list[Piece] = []
        self._header_name, self._header_value = b"", b""
        self._disposition = b""
        self._field: str | None = None
        self._value = bytearray()
        self._fields = 0
        self._is_whole = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": self._read_header_name,
                    "on_header_value": self._read_header_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._end_headers,
                    "on_part_data": self._read_data,
                    "on_part_end": self._end_part,
                    "on_end": self._end,
                },
            )
        except FormParserError:
            raise MalformedError(NO_FORM) from None

    def feed(self, chunk: bytes) -> list[Piece]:
        """Return what these bytes bring."""
        try:
            self._parser.write(chunk)
        except FormParserError:
            raise MalformedError(BROKEN) from None
        pieces, self._pieces = self._pieces, []
        return pieces

    def end(self) -> None:
        """Refuse a form whose last boundary never came."""
        if not self._is_whole:
            raise MalformedError(BROKEN)

    def _begin_part(self) -> None:
        self._disposition, self._field = b"", None

    def _read_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _read_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value
        self._header_name, self._header_value = b"", b""

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = _text(options.get(b"name", b""))
        self._fields += 1
        if self._fields > FIELDS:
            raise MalformedError(TOO_MUCH)
        if b"filename" in options:
            self._pieces.append(FileStart(name, _text(options[b"filename"])))
        else:
            self._field, self._value = name, bytearray()

    def _read_data(self, data: bytes, start: int, end: int) -> None:
        if self._field is None:
            self._pieces.append(data[start:end])
            return
        self._value += data[start:end]
        if len(self._value) > FIELD_BYTES:
            raise MalformedError(TOO_MUCH)

    def _end_part(self) -> None:
        if self._field is not None:
            self._pieces.append(Field(self._field, _text(bytes(self._value))))

    def _end(self) -> None:
        self._is_whole = True


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
