"""Settings that could only fail later stop the start, with a sentence that names the variable."""

import pytest

from producer_api.settings import ApiSettings
from schemas.errors import StartError
from schemas.settings import Settings
from schemas.variables import unknown_variables
from storage.settings import StorageSettings


@pytest.mark.parametrize(
    ("settings", "variable", "value"),
    [
        (StorageSettings, "STOKER_S3_ENDPOINT", "127.0.0.1:9000"),
        (StorageSettings, "STOKER_S3_ENDPOINT", "https://"),
        (StorageSettings, "STOKER_S3_PUBLIC_ENDPOINT", "s3.example.com"),
        (StorageSettings, "STOKER_REDIS_URL", "127.0.0.1:6379"),
        (ApiSettings, "STOKER_PUBLIC_URL", "stoker.example.com"),
    ],
)
def test_what_is_no_address_is_refused(settings: type[Settings], variable: str, value: str) -> None:
    with pytest.raises(StartError, match=f"^The setting {variable} is not usable: it must be an address such as "):
        settings.read({variable: value})


def test_a_variable_that_nobody_reads_is_told_with_the_nearest_that_somebody_does() -> None:
    given = {"STOKER_RETENTION_SECOND": "60", "STOKER_S3_ACESS_KEY": "k", "STOKER_TEAM": "search"}
    assert unknown_variables(given) == (
        "Stoker has no such settings and ignores them: STOKER_RETENTION_SECOND (did you mean "
        "STOKER_RETENTION_SECONDS?), STOKER_S3_ACESS_KEY (did you mean STOKER_S3_ACCESS_KEY?), STOKER_TEAM."
    )


def test_what_somebody_reads_and_what_is_empty_is_not_told() -> None:
    given = {"STOKER_URL": "http://api", "STOKER_REDIS_PORT": "1", "STOKER_TEAM": "", "PATH": "/bin", "stoker_x": "1"}
    assert unknown_variables(given) is None


def test_addresses_of_every_form_are_taken() -> None:
    given = {"STOKER_S3_ENDPOINT": "https://s3.example.com/base", "STOKER_REDIS_URL": "unix:///run/valkey.sock?db=1"}
    read = StorageSettings.read({**given, "STOKER_S3_PUBLIC_ENDPOINT": ""})
    assert (read.s3_endpoint, read.redis_url, read.s3_public_endpoint) == (*given.values(), None)
