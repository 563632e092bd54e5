"""A text model's small files whose tokens are words: what a test writes, it can count."""

from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from schemas.base import JsonObject
from schemas.catalog import Catalog, Model
from tests.api import catalog

CONTEXT = 50

TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}> {{ message.content }} "
    "{% for call in message.tool_calls or [] %}{{ call.function.name }} {% endfor %}{% endfor %}"
    "{% for tool in tools or [] %}{{ tool.function.name }} {% endfor %}<assistant>"
)
"""A word for each turn's role, its words, a word for each tool, and one for the answer to come."""


def write_model(folder: Path, template: str | None = TEMPLATE) -> Path:
    """Lay out a model's folder; without a template it knows no conversations."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    return folder


def text_models(folder: Path) -> Catalog:
    """The usual catalog and a text model whose tokens are words."""
    told: JsonObject = {
        "alias": "wordy",
        "kind": "text",
        "engine": "fake",
        "source": str(write_model(folder / "wordy")),
        "devices": ["cpu0"],
        "context_length": CONTEXT,
        "adapters": {
            "pirate": {"source": "./pirate", "description": "Talks like one."},
            "poet": {"source": "./poet"},
        },
    }
    return Catalog(models={**catalog().models, "wordy": Model.model_validate(told)})
