"""Queue names and the choice of a placement."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.catalog import Catalog, Model
from schemas.errors import ModelNotFoundError
from schemas.jobs import Kind
from tasks.routing import Load, Placement, choose, find_model, parse_queue, placements, placements_of

ALIASES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?", fullmatch=True)
DEVICES = st.from_regex(r"[a-z]{1,16}[0-9]{1,4}", fullmatch=True)
PLACEMENTS = st.builds(Placement, st.sampled_from([kind.value for kind in Kind]), ALIASES, DEVICES)
LOADS = st.builds(
    Load,
    st.integers(0, 64),
    st.integers(0, 10_000),
    st.booleans(),
    st.frozensets(st.sampled_from(["night", "gold", "lora_1"])),
)
CANDIDATES = st.lists(PLACEMENTS, min_size=1, max_size=6, unique=True)


def model(alias: str, *devices: str) -> Model:
    return Model(alias=alias, kind=Kind.TEXT, engine="fake", source="builtin", devices=list(devices))


CATALOG = Catalog(models={"b": model("b", "gpu1", "gpu0"), "a": model("a", "cpu0")})


@given(PLACEMENTS)
def test_a_queues_name_says_its_placement(placement: Placement) -> None:
    assert placement.queue == f"{placement.kind}.{placement.model}.{placement.device}"
    assert parse_queue(placement.queue) == placement


@given(st.lists(PLACEMENTS, max_size=5, unique=True))
def test_two_placements_never_share_a_queue(placed: list[Placement]) -> None:
    assert len({placement.queue for placement in placed}) == len(placed)


@pytest.mark.parametrize(
    "name", ["", "webhooks", "maintenance", "text.echo", "text.echo.cpu0.x", "..", "text..cpu0", "."]
)
def test_other_names_are_no_placements(name: str) -> None:
    with pytest.raises(ValueError, match=r"is not a queue of the form kind\.model\.device"):
        parse_queue(name)


def test_placements_come_in_the_catalogs_order() -> None:
    assert [placement.queue for placement in placements_of(CATALOG.models["b"])] == ["text.b.gpu1", "text.b.gpu0"]
    assert [placement.queue for placement in placements(CATALOG)] == ["text.b.gpu1", "text.b.gpu0", "text.a.cpu0"]


def test_a_model_is_found_by_its_alias() -> None:
    assert find_model(CATALOG, "a") is CATALOG.models["a"]


@pytest.mark.parametrize("alias", ["c", "", "A", "a " * 200, "a.cpu0"])
def test_an_unknown_model_is_told_which_are_known(alias: str) -> None:
    with pytest.raises(ModelNotFoundError) as refused:
        find_model(CATALOG, alias)
    assert refused.value.message == f"There is no model '{alias[:100]}'. Known models: a, b."
    assert (refused.value.param, refused.value.status) == ("model", 404)


@given(CANDIDATES, st.data())
def test_the_chosen_placement_is_never_worse_than_another(candidates: list[Placement], data: st.DataObject) -> None:
    loads = {placement.queue: data.draw(LOADS) for placement in candidates if data.draw(st.booleans())}
    chosen = choose(candidates, loads)
    assert chosen in candidates
    best = loads.get(chosen.queue, Load())
    for other in (loads.get(placement.queue, Load()) for placement in candidates):
        assert best.slots or not other.slots, "a living worker comes before none"
        if bool(best.slots) == bool(other.slots):
            assert not best.paused or other.paused, "a queue that runs comes before a paused one"
            if best.paused == other.paused:
                assert best.outstanding / max(1, best.slots) <= other.outstanding / max(1, other.slots)


@given(CANDIDATES)
def test_with_nothing_known_the_first_placement_is_taken(candidates: list[Placement]) -> None:
    assert choose(candidates, {}) == candidates[0]


def test_a_larger_placement_may_have_more_outstanding() -> None:
    small, large = Placement("text", "echo", "cpu0"), Placement("text", "echo", "gpu0")
    loads = {small.queue: Load(slots=2, outstanding=6), large.queue: Load(slots=16, outstanding=40)}
    assert choose([small, large], loads) == large


ADAPTERS = st.lists(st.sampled_from(["night", "gold", "lora_1"]), min_size=1, max_size=3, unique=True)
TWO = [Placement("image", "sketch", "gpu0"), Placement("image", "sketch", "gpu1")]


def load(outstanding: int, *adapters: str) -> Load:
    return Load(4, outstanding, adapters=frozenset(adapters))


def test_an_adapter_stays_where_it_is_until_that_place_is_overloaded() -> None:
    def chosen(here: int, there: int) -> Placement:
        return choose(TWO, {TWO[0].queue: load(here), TWO[1].queue: load(there, "night")}, ["night"])

    assert [chosen(0, there) for there in (0, 4, 8)] == [TWO[1]] * 3
    assert chosen(0, 12) == TWO[0]
    assert chosen(8, 12) == TWO[1]


def test_most_of_the_adapters_decide() -> None:
    loads = {TWO[0].queue: load(0, "night", "gold"), TWO[1].queue: load(0, "night", "lora_1")}
    assert choose(TWO, loads, ["night", "gold"]) == TWO[0]
    assert choose(TWO, loads, ["lora_1"]) == TWO[1]


def test_adapters_that_are_nowhere_are_spread_and_each_always_goes_to_the_same_place() -> None:
    loads = {place.queue: load(0) for place in TWO}
    placed = [choose(TWO, loads, [f"lora_{number}"]) for number in range(100)]
    assert placed == [choose(TWO[::-1], loads, [f"lora_{number}"]) for number in range(100)]
    assert 25 < placed.count(TWO[0]) < 75


@given(CANDIDATES, ADAPTERS, st.data())
def test_adapters_never_lead_to_where_nobody_works(
    candidates: list[Placement], adapters: list[str], data: st.DataObject
) -> None:
    loads = {placement.queue: data.draw(LOADS) for placement in candidates if data.draw(st.booleans())}
    best, chosen = choose(candidates, loads), choose(candidates, loads, adapters)
    expected, found = loads.get(best.queue, Load()), loads.get(chosen.queue, Load())
    assert (found.slots == 0, found.paused) == (expected.slots == 0, expected.paused)
