"""The settings table of docs/operations.md, made from the code: `python -m tests.settings_page` writes it anew."""

from collections.abc import Iterator
from pathlib import Path

from producer_api.settings import ApiSettings
from schemas.settings import PREFIX, Settings
from storage.settings import StorageSettings
from tasks.settings import TaskSettings
from workers.settings import WorkerSettings

PAGE = Path(__file__).parents[1] / "docs" / "operations.md"
BEGIN, END = "<!-- settings: made from the code -->\n", "<!-- end of settings -->\n"
GROUPS: tuple[tuple[str, type[Settings]], ...] = (
    ("every part", StorageSettings),
    ("API, workers, beat", TaskSettings),
    ("API", ApiSettings),
    ("workers", WorkerSettings),
)


def table() -> str:
    """Return the table: one line for each variable, in the order of the code."""
    return "".join(["| variable | default | read by | what it is |\n|---|---|---|---|\n", *_lines()])


def written() -> str:
    """Return what the page has."""
    return PAGE.read_text().partition(BEGIN)[2].partition(END)[0]


def _lines() -> Iterator[str]:
    seen: set[str] = set()
    for readers, settings in GROUPS:
        for name, field in settings.model_fields.items():
            if name not in seen:
                seen.add(name)
                default = "" if field.default in (None, "") else f"`{field.default}`"
                yield f"| `{PREFIX}{name.upper()}` | {default} | {readers} | {field.description or ''} |\n"


if __name__ == "__main__":
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(before + BEGIN + table() + END + rest.partition(END)[2])
