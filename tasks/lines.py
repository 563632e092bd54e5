"""Lines of a batch's file, judged as they stream by: what is wrong with the file is known before any line runs."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from schemas.base import JsonObject
from schemas.batches import Endpoint, Flaw, RequestLine
from storage.objects.port import Reader

LINE_BYTES = 8 * 2**20
"""As long as the body of a request may be."""
PIECE_BYTES = 256 * 2**10
FLAWS = 100
BOM = b"\xef\xbb\xbf"
SHOWN_CHARACTERS = 100


def split_lines(reader: Reader, line_bytes: int = LINE_BYTES) -> Iterator[bytes | None]:
    """Yield the lines of a file without their ends; None for one that is too long to be read."""
    rest, is_too_long, mark = b"", False, BOM
    while piece := reader.read(PIECE_BYTES):
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield None if is_too_long or len(line) > line_bytes else line.removeprefix(mark).removesuffix(b"\r")
            is_too_long, mark = False, b""
        if len(rest) > line_bytes:
            rest, is_too_long = b"", True
    if rest or is_too_long:
        yield None if is_too_long else rest.removeprefix(mark).removesuffix(b"\r")


class Inspection:
    """Looks at every line of a file; it can be a batch when there are no flaws at the end."""

    def __init__(self, endpoint: Endpoint, max_lines: int) -> None:
        self._endpoint = endpoint
        self._max_lines = max_lines
        self._met: dict[str, int] = {}
        self.flaws: list[Flaw] = []

    @property
    def total(self) -> int:
        """How many good lines there were."""
        return len(self._met)

    def look(self, lines: Iterator[bytes | None]) -> Iterator[tuple[bytes, JsonObject]]:
        """Yield the good lines with their bodies, while more can be learned from others; empty ones do not count."""
        for number, line in enumerate(lines, start=1):
            if line is not None and not line.strip():
                continue
            if self.total == self._max_lines:
                said = f"A batch has {self._max_lines:,} lines at most; split the file."
                self.flaws.append(Flaw(code="too_many_lines", line=None, message=said))
                return
            judged = self._judge(number, line)
            if isinstance(judged, Flaw):
                self.flaws.append(judged)
            else:
                yield line or b"", judged.body
            if len(self.flaws) == FLAWS:
                return
        if not self.total and not self.flaws:
            said = "The file has no lines; upload one with a request on each."
            self.flaws.append(Flaw(code="empty_file", line=None, message=said))

    def _judge(self, number: int, line: bytes | None) -> RequestLine | Flaw:
        if line is None:
            said = f"The line has more than {LINE_BYTES / 2**20:g} MiB; send less."
            return Flaw(code="line_too_long", line=number, message=said)
        try:
            asked = RequestLine.model_validate_json(line, strict=True)
        except ValidationError as error:
            return _describe(error, number, line)
        if asked.url is not self._endpoint:
            said = f"The batch is for {self._endpoint} and this line asks for {asked.url}; use one batch for each."
            return Flaw(code="mismatched_url", line=number, message=said, param="url")
        first = self._met.setdefault(asked.custom_id, number)
        if first != number:
            name = asked.custom_id[:SHOWN_CHARACTERS]
            said = f"The custom_id '{name}' is on line {first} already; give each line its own."
            return Flaw(code="duplicate_custom_id", line=number, message=said, param="custom_id")
        return asked


def _describe(error: ValidationError, number: int, line: bytes) -> Flaw:
    """Return what is first wrong with a line, in words."""
    first = error.errors(include_url=False, include_input=False)[0]
    param = ".".join(str(part) for part in first["loc"])[:SHOWN_CHARACTERS]
    if first["type"] == "json_invalid":
        why = str(first["ctx"]["error"]).replace(" at line 1 column", " at column")  # of the file it is another line
        said = f"The line is not valid JSON ({why})."
        if not _is_text(line):
            said = "The line is not text in UTF-8; save the file in that encoding."
        return Flaw(code="invalid_json_line", line=number, message=said)
    if not param:
        said = "The line is not a JSON object; write one object on each line."
        return Flaw(code="invalid_json_line", line=number, message=said)
    code, said = _of_field(first, param)
    return Flaw(code=code, line=number, message=said, param=param)


def _is_text(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _of_field(first: ErrorDetails, param: str) -> tuple[str, str]:
    if first["type"] == "missing":
        return "missing_field", f"The field '{param}' is missing; add it."
    if first["type"] == "extra_forbidden":
        return "unknown_field", f"There is no field '{param}' in a line; take it out, or put it into 'body'."
    message = first["msg"]
    return "invalid_field", f"The field '{param}' is not valid: {message[0].lower()}{message[1:]}."
