"""Short words for tests of batches: files made of lines, a clerk, and what the files say in the end."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from schemas.base import JsonObject
from schemas.batches import Endpoint
from schemas.catalog import Catalog
from schemas.files import JSON_LINES
from schemas.ids import new_id
from storage import batches, files
from storage.batches import BatchRow, NewBatch
from storage.database import Database
from storage.files import NewFile
from storage.objects.port import ObjectStore, file_key
from storage.tables import batch_lines as lines_table
from tasks.batches.clerk import Clerk
from tasks.settings import TaskSettings
from tests.contract.sql import CALLER
from tests.integration.bench import Bench


def chat_line(custom_id: str, prompt: str = "hello", **body: Any) -> JsonObject:
    """A line that asks the usual model."""
    asked = {"model": "echo", "messages": [{"role": "user", "content": prompt}], "max_tokens": 5, **body}
    return {"custom_id": custom_id, "method": "POST", "url": Endpoint.CHAT_COMPLETIONS, "body": asked}


def chat_lines(prompts: Sequence[str]) -> list[JsonObject]:
    """A line for each prompt, called `line-0`, `line-1` and so on."""
    return [chat_line(f"line-{number}", prompt) for number, prompt in enumerate(prompts)]


def as_file(lines: Sequence[JsonObject]) -> bytes:
    """The lines as they are uploaded."""
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


@dataclass
class Office:
    """What creates batches and works on them, beside those who run their lines."""

    database: Database
    objects: ObjectStore
    catalog: Catalog
    settings: TaskSettings = field(default_factory=TaskSettings)
    hinted: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clerk = self.new_clerk()

    def new_clerk(self) -> Clerk:
        """Another one, as another process would have it."""
        return Clerk(
            self.database,
            self.objects,
            self.settings,
            read_catalog=lambda: self.catalog,
            hint=lambda queue, _: self.hinted.append(queue),
        )

    def upload(self, content: bytes) -> str:
        """A file with these bytes; its id."""
        file_id = new_id("file")
        sha256 = self.objects.put(file_key(file_id), content, JSON_LINES)
        new = NewFile(file_id, CALLER, "batch", "lines.jsonl", len(content), sha256, None)
        self.database.transact(lambda connection: files.add(connection, new))
        return file_id

    def create(
        self, lines: Sequence[JsonObject] | bytes, endpoint: Endpoint = Endpoint.CHAT_COMPLETIONS, **changes: Any
    ) -> str:
        """A batch of these lines, not looked at yet; its id."""
        content = lines if isinstance(lines, bytes) else as_file(lines)
        said = {"completion_window": "24h", "window_seconds": 86_400.0, **changes}
        new = NewBatch(new_id("batch"), CALLER, endpoint, self.upload(content), **said)
        return self.database.transact(lambda connection: batches.add(connection, new)).id

    def publish(self, lines: Sequence[JsonObject] | bytes, **changes: Any) -> str:
        """A batch whose lines may run; its id."""
        batch_id = self.create(lines, **changes)
        assert self.clerk.work_once()
        assert self.row(batch_id).status == "in_progress"
        return batch_id

    def row(self, batch_id: str) -> BatchRow:
        """A batch's row, which must be there."""
        found = self.database.read(lambda connection: batches.find(connection, batch_id))
        assert found is not None
        return found

    def counts(self, batch_id: str) -> tuple[str, int, int]:
        """Where it is, and how many lines succeeded and failed."""
        row = self.row(batch_id)
        return row.status, row.completed, row.failed

    def output(self, batch_id: str) -> list[JsonObject]:
        """The lines of its output file."""
        return self._read(self.row(batch_id).output_file_id)

    def errors(self, batch_id: str) -> list[JsonObject]:
        """The lines of its error file."""
        return self._read(self.row(batch_id).error_file_id)

    def _read(self, file_id: str | None) -> list[JsonObject]:
        if file_id is None:
            return []
        row = self.database.read(lambda connection: files.find(connection, file_id, CALLER))
        assert row is not None
        content = self.objects.get(file_key(file_id))
        assert row.bytes == len(content)
        return [json.loads(line) for line in content.splitlines()]


def run(bench: Bench, office: Office, batch_id: str) -> None:
    """Run all lines and end the batch."""
    bench.hint()
    bench.until(lambda: office.row(batch_id).status != "in_progress")
    assert office.clerk.work_once()


def names(lines: list[dict[str, object]]) -> list[object]:
    """What lines are called."""
    return [line["custom_id"] for line in lines]


def lines_of(database: Database, *columns: str) -> list[tuple[object, ...]]:
    """What the rows of all lines say."""
    query = sa.select(*(lines_table.c[name] for name in columns)).order_by(lines_table.c.id)
    return [tuple(row) for row in database.read(lambda connection: list(connection.execute(query)))]
