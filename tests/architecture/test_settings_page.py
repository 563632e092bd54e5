"""The settings that operators read about are the settings that there are."""

import re

import pytest

from schemas.settings import PREFIX, Settings
from schemas.variables import OTHERS, SETTINGS
from stoker.surroundings import PREFERRED_PORTS
from tests.architecture.source import tracked_files
from tests.settings_page import GROUPS, table, written


def test_the_page_has_the_table_that_the_code_makes() -> None:
    assert written() == table(), "docs/operations.md is behind the code: run `python -m tests.settings_page`"


def test_the_names_that_tell_a_misspelt_one_are_those_that_there_are() -> None:
    fields = {PREFIX + name.upper() for _, settings in GROUPS for name in settings.model_fields}
    assert fields == SETTINGS


def test_what_is_read_beside_the_settings_is_known_too() -> None:
    texts = [*tracked_files("stoker/*.py"), *tracked_files("docker-compose.yml", ".env.example")]
    read = {name for _, text in texts for name in re.findall(r"\bSTOKER_[A-Z0-9_]*[A-Z0-9]\b", text)}
    assert read | {f"{PREFIX}{name.upper()}_PORT" for name in PREFERRED_PORTS} == OTHERS | (SETTINGS & read)


@pytest.mark.parametrize("settings", [settings for _, settings in GROUPS])
def test_every_setting_says_what_it_is(settings: type[Settings]) -> None:
    assert [name for name, field in settings.model_fields.items() if not field.description] == []
