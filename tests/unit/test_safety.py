"""The plain checker: which words it finds however they are hidden, which pictures it blocks, how others are named."""

import pytest

from schemas.catalog import Catalog, Model
from schemas.errors import CatalogError, ContentPolicyError
from schemas.image import ImageInput, SafetyMode
from tasks.safety import BasicChecker, Guard, find_checker, load_checkers
from tasks.safety_words import find_banned

SKIN = ((244, 208, 177), (224, 172, 105), (141, 85, 36), (92, 58, 33), (61, 37, 22))
SIDE = 20


class Grump:
    """A checker that somebody else has written: it refuses everything."""

    def judge_prompt(self, prompt: str) -> str | None:
        """Refuse."""
        return f"it does not like '{prompt}'"

    def judge_picture(self, width: int, height: int, rgb: bytes) -> str | None:
        """Block."""
        return f"{len(rgb)} bytes are {width * height * 3 - len(rgb)} too few"


def model(safety: str = "", **fields: object) -> Model:
    base = {"alias": "m", "kind": "image", "engine": "fake", "source": "builtin", "devices": ["cpu0"]}
    return Model.model_validate({**base, "image": {"safety": safety}, **fields})


@pytest.mark.parametrize(
    "prompt",
    [
        *(
            "a nude man",
            "NUDE",
            "nüdé",
            "n.u.d.e",
            "n u d e",
            "a n-u-d-e man",
            "nuuude",
            "nud3",
            "\uff4e\uff55\uff44\uff45",
            "n\u200bude",
        ),
        *("p0rn", "p o r n o", "$ex", "a naked-woman", "n\u0430ked", "p\u03bfrn", "p \u043e r n", "gory!", "ⓝⓤⓓⓔ"),
        *("누드화", "여자 누드를 그려줘", "알몸의 사람"),
    ],
)
def test_words_are_found_however_they_are_spelled(prompt: str) -> None:
    assert find_banned(prompt)


@pytest.mark.parametrize(
    "prompt",
    [
        *("a red circle", "a map of Essex and Sussex", "3 blue stars!", "an exposé of the nudibranch", "a b c d"),
        *(
            "a black cross",
            "Bach's categories",
            "10,000 squares",
            "\u200b",
            "!!!",
            "빨간 동그라미",
            "체나 나무",
            "красный круг",
            "κόκκινος κύκλος",
        ),
    ],
)
def test_other_words_are_let_through(prompt: str) -> None:
    assert find_banned(prompt) is None


def picture(colour: tuple[int, int, int], share: float = 1.0) -> bytes:
    """White paper whose upper part has a colour."""
    rows = round(SIDE * share)
    return bytes(colour) * SIDE * rows + bytes((255, 255, 255)) * SIDE * (SIDE - rows)


@pytest.mark.parametrize("colour", SKIN)
def test_a_picture_full_of_skin_is_blocked_whatever_its_brightness(colour: tuple[int, int, int]) -> None:
    judge = BasicChecker().judge_picture
    assert "100% of it" in str(judge(SIDE, SIDE, picture(colour)))
    assert judge(SIDE, SIDE, picture(colour, 0.4)) is None


@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (220, 20, 30), (20, 60, 220), (30, 160, 60)])
def test_other_pictures_are_let_through(colour: tuple[int, int, int]) -> None:
    assert BasicChecker().judge_picture(SIDE, SIDE, picture(colour)) is None


@pytest.mark.parametrize(("width", "height"), [(8, 8), (64, 8), (200, 136)])
def test_pictures_of_every_shape_are_looked_at(width: int, height: int) -> None:
    assert BasicChecker().judge_picture(width, height, bytes(SKIN[0]) * width * height)


def test_a_guard_refuses_blocks_and_tells() -> None:
    guard = Guard(ImageInput(prompt="x", safety_mode=SafetyMode.BLOCK), model("basic"))
    guard.check_prompt("a red circle")
    with pytest.raises(ContentPolicyError, match="checker 'basic': the word 'nude' is on its") as no:
        guard.check_prompt("a n.u.d.e man")
    assert no.value.param == "input.prompt"
    assert guard.judge_picture(SIDE, SIDE, picture(SKIN[1]))
    assert guard.judge_picture(SIDE, SIDE, picture((0, 0, 0))) is None
    assert guard.report(1) == {"mode": "block", "checker": "basic", "blocked": 1}


def test_a_guard_that_is_off_looks_at_nothing() -> None:
    for given, checker in (
        (ImageInput(prompt="x", safety_mode=SafetyMode.OFF), "basic"),
        (ImageInput(prompt="x", safety_mode=SafetyMode.BLOCK), ""),
    ):
        guard = Guard(given, model(checker))
        guard.check_prompt("nude")
        assert guard.judge_picture(SIDE, SIDE, picture(SKIN[1])) is None
        assert guard.report(0) == {"mode": "off", "checker": None, "blocked": 0}


def test_the_catalog_may_name_a_checker_of_its_own() -> None:
    own = model(f"{__name__}:Grump")
    load_checkers(Catalog(models={"m": own}))
    guard = Guard(ImageInput(prompt="x", safety_mode=SafetyMode.BLOCK), own)
    with pytest.raises(ContentPolicyError, match="it does not like 'hello'"):
        guard.check_prompt("hello")
    assert guard.judge_picture(1, 1, b"") == "0 bytes are 3 too few"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("stern", "There is no safety checker 'stern'. Known ones: basic;"),
        ("nowhere.at_all:X", "cannot be loaded"),
        ("tasks.safety:X", "cannot be loaded"),
    ],
)
def test_a_wrong_name_stops_the_start(name: str, said: str) -> None:
    with pytest.raises(CatalogError, match=said):
        load_checkers(Catalog(models={"m": model(name)}))
    with pytest.raises(CatalogError):
        find_checker(name)
