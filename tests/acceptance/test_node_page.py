"""The examples of docs/node.md, run as a reader would run them, on the demo catalog's real model."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.platform import ROOT, Platform

OLDEST = 20
BLOCK = re.compile(r"```js run( openai)?\n(.*?)```", re.DOTALL)
PAGE = (ROOT / "docs" / "node.md").read_text()
EXAMPLES = BLOCK.findall(PAGE)
FOLDERS = os.environ.get("NODE_PATH", "").split(os.pathsep)
PACKAGES = next((Path(folder) for folder in FOLDERS if folder and Path(folder, "openai").is_dir()), None)


def _succeeded_with_words(said: str) -> bool:
    return bool(re.match(r"succeeded\s+\w", said))


def _has_words(said: str) -> bool:
    return bool(re.search(r"\w", said))


RIGHT: list[Callable[[str], bool]] = [_succeeded_with_words, _has_words, _succeeded_with_words, _has_words]


@pytest.fixture(scope="module")
def node() -> str:
    """A Node that has what the page says it has."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("there is no node on the PATH to run the examples with")
    version = subprocess.run([found, "-p", "process.versions.node"], capture_output=True, text=True, check=True).stdout
    if int(version.partition(".")[0]) < OLDEST:
        pytest.skip(f"the examples want node {OLDEST}, and this is {version.strip()}")
    return found


def test_the_page_has_its_examples() -> None:
    assert [bool(package) for package, _ in EXAMPLES] == [False, False, False, True]
    assert PAGE.count("```") == 2 * len(EXAMPLES), "an example that is not run is not true for long"


@pytest.mark.parametrize("number", range(len(RIGHT)), ids=["job", "stream", "events", "openai"])
def test_an_example_runs_as_written(demo: Platform, node: str, tmp_path: Path, number: int) -> None:
    package, code = EXAMPLES[number]
    if package and PACKAGES is None:
        pytest.skip("no folder in NODE_PATH has the package openai (npm install openai, and name its node_modules)")
    if package and PACKAGES:
        (tmp_path / "node_modules").symlink_to(PACKAGES)
    example = tmp_path / "example.mjs"
    example.write_text(code)
    done = subprocess.run(
        [node, str(example)],
        env=demo.environment | demo.client,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert RIGHT[number](done.stdout), done.stdout
