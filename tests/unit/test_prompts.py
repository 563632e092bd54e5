"""A conversation in a model's own words: templates, special tokens, tools, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.base import JsonObject
from schemas.errors import InvalidError, StartError
from schemas.text import TextInput
from tasks.prompts import Prompts
from tests.words import TEMPLATE, write_model

USER = {"role": "user", "content": "one two"}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}, "strict": True}}


def given(**fields: Any) -> TextInput:
    """A conversation, unless a prompt is given."""
    return TextInput.model_validate({**({} if "prompt" in fields else {"messages": [USER]}), **fields})


def prompts(folder: Path, template: str | None = TEMPLATE, **settings: Any) -> Prompts:
    """A model with this template and these settings of its tokenizer."""
    (write_model(folder, template) / "tokenizer_config.json").write_text(json.dumps(settings))
    return Prompts(folder)


def test_what_is_counted_is_what_is_read(tmp_path: Path) -> None:
    made = prompts(tmp_path)
    for one in (given(), given(prompt="one two three"), given(tools=[TOOL]), given(prompt="안녕 😀\n" * 500)):
        assert made.count(one) == len(made.encode(one)) > 0
    assert made.encode_text("one two") == [0, 0]


def test_turns_are_rendered_with_their_calls_and_answers(tmp_path: Path) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": "서울"}'}}
    made = prompts(tmp_path, "{{ messages | tojson }}")
    turns: list[JsonObject] = [
        {
            "role": "user",
            "content": [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}],
            "name": "Ann",
        },
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "here"},
    ]
    assert json.loads(made.render(given(messages=turns))) == [
        {"role": "user", "content": "one two", "name": "Ann"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{**call, "function": {"name": "look", "arguments": {"at": "서울"}}}],
        },
        {"role": "tool", "content": "here", "tool_call_id": "c1"},
    ]


def test_arguments_that_are_no_json_are_left_as_they_are(tmp_path: Path) -> None:
    call = {"id": "c1", "function": {"name": "look", "arguments": "at:"}}
    turns = [USER, {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "c1", "content": "x"}]
    made = prompts(tmp_path, "{{ messages[1].tool_calls[0].function.arguments }}")
    assert made.render(given(messages=turns)) == "at:"


def test_tools_are_shown_unless_none_may_be_called(tmp_path: Path) -> None:
    made = prompts(tmp_path, "{{ tools | tojson }}")
    shown = [{"type": "function", "function": {"name": "look", "description": "", "parameters": {"type": "object"}}}]
    assert json.loads(made.render(given(tools=[TOOL]))) == shown
    assert made.render(given(tools=[TOOL], tool_choice="none")) == made.render(given()) == "null"


def test_special_tokens_come_from_the_tokenizers_settings(tmp_path: Path) -> None:
    made = prompts(
        tmp_path,
        "{{ bos_token }}|{{ eos_token }}|{{ pad_token is none }}",
        bos_token="<s>",
        eos_token={"content": "</s>", "lstrip": False},
    )
    assert made.render(given()) == "<s>|</s>|True"


def test_a_template_may_stand_in_the_settings_or_in_the_catalog(tmp_path: Path) -> None:
    named = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "usual"}]
    for told in ("usual", named):
        made = prompts(tmp_path, None, chat_template=told)
        assert made.render(given()) == "usual"
    assert Prompts(tmp_path, "catalog's").render(given()) == "catalog's"


def test_templates_may_use_what_the_usual_ones_use(tmp_path: Path) -> None:
    template = (
        "{% for one in messages %}{% if loop.index > 1 %}{% break %}{% endif %}{{ one.content }}{% endfor %}"
        "{% generation %}{% endgeneration %}"
    ).replace("{% generation %}{% endgeneration %}", "{{ strftime_now('%Y') | length }}")
    assert prompts(tmp_path, template).render(given(messages=[USER, USER])) == "one two4"


REFUSED = {
    "its own refusal": (
        "{{ raise_exception('Only user and assistant, please.') }}",
        "Only user and assistant, please.",
    ),
    "something that is not there": ("{{ messages[0].nothing.more }}", "does not take this conversation"),
    "words where it wants a number": ("{{ 1 + messages[0].content }}", "does not take this conversation"),
    "what the sandbox forbids": ("{{ ''.__class__.__mro__ }}", "does not take this conversation"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_template_that_fails_is_the_conversations_fault(tmp_path: Path, name: str) -> None:
    template, words = REFUSED[name]
    with pytest.raises(InvalidError, match=words) as refused:
        prompts(tmp_path, template).count(given())
    assert refused.value.param == "input.messages"


def test_without_a_template_there_are_no_conversations(tmp_path: Path) -> None:
    made = prompts(tmp_path, None)
    assert made.count(given(prompt="one two")) == 2
    with pytest.raises(InvalidError, match="has no chat template; send a 'prompt' instead"):
        made.count(given())


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("tokenizer.json", '{"a":', r"tokenizer\.json cannot be read: .*again"),
        ("tokenizer_config.json", "{", r"tokenizer_config\.json cannot be read: .*again"),
        ("chat_template.jinja", "{% if %}", "chat template cannot be read: Expected an expression"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: str, said: str) -> None:
    write_model(tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(StartError, match=said):
        Prompts(tmp_path)


def test_without_a_tokenizer_there_is_nothing_to_count(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="so prompts cannot be counted; save the model's tokenizer there"):
        Prompts(tmp_path)
