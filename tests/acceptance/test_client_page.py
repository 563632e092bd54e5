"""The examples of docs/client.md, run as a reader would run them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.platform import ROOT, Platform

BLOCK = re.compile(r"```(sh|python) run\n(.*?)```", re.DOTALL)
PAGE = (ROOT / "docs" / "client.md").read_text()
EXAMPLES = BLOCK.findall(PAGE)


def test_the_page_has_its_examples() -> None:
    assert [language for language, _ in EXAMPLES] == ["python", "python", "sh"]
    assert PAGE.count("```") == 2 * len(EXAMPLES), "an example that is not run is not true for long"


@pytest.mark.parametrize(("language", "code"), EXAMPLES, ids=["blocking", "asynchronous", "terminal"])
def test_an_example_runs_as_written(demo: Platform, tmp_path: Path, language: str, code: str) -> None:
    environment = demo.environment | {
        "PATH": f"{ROOT / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    command = ["sh", "-euc", code] if language == "sh" else [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout
