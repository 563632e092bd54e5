"""The settings that operators read about are the settings that there are."""

import pytest

from schemas.settings import Settings
from tests.settings_page import GROUPS, table, written


def test_the_page_has_the_table_that_the_code_makes() -> None:
    assert written() == table(), "docs/operations.md is behind the code: run `python -m tests.settings_page`"


@pytest.mark.parametrize("settings", [settings for _, settings in GROUPS])
def test_every_setting_says_what_it_is(settings: type[Settings]) -> None:
    assert [name for name, field in settings.model_fields.items() if not field.description] == []
