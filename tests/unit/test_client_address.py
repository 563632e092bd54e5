"""Where a client finds the API and its key, and to whom it never shows the key."""

from pathlib import Path

import pytest

from stoker import StokerError
from stoker.client.address import Address, find_address, make_address

URL = "http://127.0.0.1:8000"
HERE = Address(URL, "sk-file")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder in which `make up` has run."""
    (tmp_path / ".stoker").mkdir()
    (tmp_path / ".stoker" / "client.env").write_text(f"export STOKER_URL={URL}\nSTOKER_API_KEY=sk-file\n")
    (tmp_path / "src" / "deep").mkdir(parents=True)
    return tmp_path


def test_the_nearest_file_upwards_is_read(project: Path) -> None:
    assert find_address({}, project) == HERE
    assert find_address({}, project / "src" / "deep") == HERE


def test_the_environment_wins(project: Path) -> None:
    both = {"STOKER_URL": "https://far.example/v1/", "STOKER_API_KEY": "sk-env"}
    assert find_address(both, project) == Address("https://far.example", "sk-env")
    assert find_address({"STOKER_API_KEY": "sk-env"}, project) == Address(URL, "sk-env")
    assert find_address({"STOKER_URL": f"{URL}/"}, project) == HERE


def test_a_key_is_shown_to_its_own_api_only(project: Path) -> None:
    with pytest.raises(StokerError, match=r"no key for https://far\.example: set STOKER_API_KEY"):
        find_address({"STOKER_URL": "https://far.example"}, project)


def test_a_named_state_folder_is_the_only_one_looked_at(project: Path, tmp_path: Path) -> None:
    assert find_address({"STOKER_HOME": str(project / ".stoker")}, Path("/")) == HERE
    with pytest.raises(StokerError, match="It is not known where the API is: start it with `make up`"):
        find_address({"STOKER_HOME": str(tmp_path / "elsewhere")}, project)


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://host", "http://", "localhost", "http://a b:x"])
def test_an_address_that_is_none_is_told_as_such(url: str) -> None:
    with pytest.raises(StokerError, match="must look like http"):
        make_address(url, "sk-key")


def test_a_key_with_impossible_characters_is_told_as_such() -> None:
    with pytest.raises(StokerError, match="copy it whole"):
        make_address(URL, "…FmIc")


def test_a_key_is_not_printed_by_accident() -> None:
    assert "sk-file" not in repr(HERE)
