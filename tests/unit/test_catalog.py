"""Reading the catalog: a mistake stops the start with a sentence that says where it is and what was expected."""

import re
from pathlib import Path

import pytest

from schemas.catalog import Model
from schemas.errors import CatalogError
from storage.catalog import CatalogFile, read_catalog

GOOD = '[models.echo]\nkind = "text"\nengine = "fake"\nsource = "builtin"\ndevices = ["cpu0", "gpu1"]\n'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "models.toml"


def refusal(path: Path) -> str:
    with pytest.raises(CatalogError) as refused:
        read_catalog(str(path))
    return str(refused.value).replace(str(path), "PATH")


def test_a_short_table_is_a_model_with_defaults(path: Path) -> None:
    path.write_text(GOOD + "[models.other]\n" + GOOD.partition("\n")[2])
    catalog = read_catalog(str(path))
    assert list(catalog.models) == ["echo", "other"]
    model = catalog.models["echo"]
    assert (model.alias, model.kind, model.devices) == ("echo", "text", ["cpu0", "gpu1"])
    assert (model.revision, model.max_in_flight, model.timeout_seconds, model.preload) == ("main", 8, 600, True)


def test_a_file_is_read_again_when_it_has_changed_and_only_then(path: Path) -> None:
    file = CatalogFile(str(path))
    with pytest.raises(CatalogError, match="cannot be read"):
        file.read()
    path.write_text(GOOD)
    catalog = file.read()
    assert file.read() is catalog
    path.write_text(GOOD.replace("echo", "parrot"))
    assert list(file.read().models) == ["parrot"]
    path.write_text("nonsense")
    for _ in range(2):
        with pytest.raises(CatalogError, match="is not valid TOML"):
            file.read()


def test_everything_that_may_be_said_is_kept(path: Path) -> None:
    said = 'revision = "abc"\nmax_in_flight = 4\ncontext_length = 128\ntimeout_seconds = 1.5\npreload = false\n'
    said += 'languages = ["en"]\ndescription = "é"\nwarm_up = { prompt = "a" }\noptions = { x = [1] }\n'
    path.write_text(GOOD + said, encoding="utf-8")
    model = read_catalog(str(path)).models["echo"]
    assert (model.revision, model.max_in_flight, model.context_length, model.timeout_seconds) == ("abc", 4, 128, 1.5)
    assert (model.preload, model.languages, model.description) == (False, ["en"], "é")
    assert (model.warm_up, model.options) == ({"prompt": "a"}, {"x": [1]})


def test_an_image_model_has_a_table_of_its_own(path: Path) -> None:
    image = GOOD.replace('"text"', '"image"')
    path.write_text(image)
    assert read_catalog(str(path)).models["echo"].image.width == 512
    path.write_text(image + "[models.echo.image]\nwidth = 64\nschedulers = ['ddim']\n")
    own = read_catalog(str(path)).models["echo"].image
    assert (own.width, own.height, own.schedulers, own.safety) == (64, 512, ["ddim"], "")
    path.write_text(image + "[models.echo.image]\nwidth = 60\n")
    assert "table [models.echo], key 'image.width': Input should be a multiple of 8." in refusal(path)


def test_no_other_model_has_a_table_for_images(path: Path) -> None:
    path.write_text(GOOD + "[models.echo.image]\nwidth = 64\n")
    assert "a text model makes none; take it out" in refusal(path)


def test_the_projects_own_catalog_is_good() -> None:
    assert read_catalog(str(Path(__file__).parents[2] / "models.toml")).models


@pytest.mark.parametrize("alias", ["a", "7", "qwen2-5-7b", "a" * 48])
def test_aliases_that_are_allowed(path: Path, alias: str) -> None:
    path.write_text(GOOD.replace("echo", alias))
    assert list(read_catalog(str(path)).models) == [alias]


@pytest.mark.parametrize("alias", ['"a.b"', '""', "A", "-a", "a-", "a_b", '"é"', "a" * 49, '"a b"', '"a\\n"'])
def test_aliases_that_are_not_allowed(path: Path, alias: str) -> None:
    path.write_text(GOOD.replace("echo", alias))
    assert re.match(
        r"The catalog PATH, table \[models\.(.|\n)*\], key 'alias': String should match pattern", refusal(path)
    )


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('kind = "text"\n', "", "key 'kind': Field required."),
        ('"text"', '"video"', "key 'kind': Input should be 'text', 'image' or 'embedding'."),
        ('source = "builtin"', 'source = ""', "key 'source': String should have at least 1 character."),
        ('devices = ["cpu0", "gpu1"]', "devices = []", "key 'devices': List should have at least 1 item"),
        ('["cpu0", "gpu1"]', '"cpu0"', "key 'devices': Input should be a valid list."),
        ('"gpu1"', '"gpu:1"', "key 'devices.1': String should match pattern '^[a-z]{1,16}[0-9]{1,4}$'."),
        ('"gpu1"', '"cpu0"', "key 'devices': Value error, a device is named twice; one device has one worker"),
        ("engine", "max_in_flight = 0\nengine", "key 'max_in_flight': Input should be greater than or equal to 1."),
        ("engine", 'max_in_flight = "many"\nengine', "key 'max_in_flight': Input should be a valid integer"),
        ("engine", "timeout_seconds = nan\nengine", "key 'timeout_seconds': Input should be a finite number."),
        ("engine", "timeout_seconds = -1\nengine", "key 'timeout_seconds': Input should be greater than 0."),
        ("engine", 'alias = "other"\nengine', "key 'alias': the table's name is the alias."),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(path: Path, old: str, new: str, said: str) -> None:
    path.write_text(GOOD.replace(old, new, 1))
    assert refusal(path).startswith(f"The catalog PATH, table [models.echo], {said}")


def test_a_typo_is_named_with_the_keys_that_are_known(path: Path) -> None:
    path.write_text(GOOD + "max_inflight = 4\n")
    said = refusal(path)
    assert said.startswith(
        "The catalog PATH, table [models.echo], key 'max_inflight': "
        "There is no such key; did you mean 'max_in_flight'? Known keys: kind, "
    )
    known = said.partition("Known keys: ")[2].removesuffix(".").split(", ")
    assert set(known) == set(Model.model_fields) - {"alias"}


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("image]\nwidht = 64", "key 'image.widht': There is no such key; did you mean 'width'? Known keys: width, "),
        ("adapters.a]\nsorce = 'x'", "key 'adapters.a.sorce': There is no such key; did you mean 'source'? Known"),
    ],
)
def test_a_typo_in_an_inner_table_is_named_with_its_own_keys(path: Path, table: str, said: str) -> None:
    path.write_text(GOOD.replace('"text"', '"image"') + f"[models.echo.{table}\n")
    assert said in refusal(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "The catalog PATH has no model; add a table such as [models.my-model]."),
        ("[models]", "The catalog PATH has no model; add a table such as [models.my-model]."),
        ("models = 3", "The catalog PATH has no model; add a table such as [models.my-model]."),
        ("[model.echo]", "The catalog PATH has an unknown table [model]; models are tables named [models.ALIAS]."),
        (
            "[models]\necho = 1",
            "The catalog PATH has models.echo as a value; write a table [models.echo] with",
        ),
        ("[models.echo\n", "The catalog PATH is not valid TOML: "),
        (GOOD + GOOD, "The catalog PATH is not valid TOML: "),
        ('[models.a]\nkind = "\\ud800"', "The catalog PATH is not valid TOML: "),
    ],
)
def test_a_wrong_file_is_told_what_it_lacks(path: Path, content: str, said: str) -> None:
    path.write_text(content)
    assert refusal(path).startswith(said)


def test_a_file_that_is_not_text_or_not_there(path: Path) -> None:
    assert refusal(path).startswith(
        "The catalog PATH cannot be read (No such file or directory); create it or set STOKER"
    )
    path.write_bytes(b"\xff\xfe")
    assert refusal(path).startswith("The catalog PATH is not valid TOML: ")
    path.unlink()
    path.mkdir()
    assert refusal(path).startswith("The catalog PATH cannot be read (Is a directory)")
