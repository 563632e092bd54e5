"""Settings that could only fail later stop the start, with a sentence that names the variable."""

import pytest

from producer_api.settings import ApiSettings
from schemas.errors import StartError
from schemas.settings import Settings
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


def test_addresses_of_every_form_are_taken() -> None:
    given = {"STOKER_S3_ENDPOINT": "https://s3.example.com/base", "STOKER_REDIS_URL": "unix:///run/valkey.sock?db=1"}
    read = StorageSettings.read({**given, "STOKER_S3_PUBLIC_ENDPOINT": ""})
    assert (read.s3_endpoint, read.redis_url, read.s3_public_endpoint) == (*given.values(), None)
