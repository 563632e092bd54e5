"""The examples of docs/loras.md, run as a reader would run them, on the demo catalog's real models."""

import re
import subprocess
import sys

import pytest

from tests.acceptance.platform import ROOT, Platform

BLOCK = re.compile(r"```(sh|python) run\n(.*?)```", re.DOTALL)
PAGE = (ROOT / "docs" / "loras.md").read_text()
EXAMPLES = BLOCK.findall(PAGE)
SAID = (("lora_", "brass", "catalog", "not_found"), ("lora_", "chat:captain", "stop"), ("midnight", "catalog"))


def test_the_page_has_its_examples() -> None:
    assert [language for language, _ in EXAMPLES] == ["sh", "sh", "python"]
    assert PAGE.count("```") == 2 * len(EXAMPLES), "an example that is not run is not true for long"


@pytest.mark.parametrize("number", range(len(SAID)), ids=["image", "text", "python"])
def test_an_example_runs_as_written(demo: Platform, number: int) -> None:
    language, code = EXAMPLES[number]
    command = ["sh", "-euc", code] if language == "sh" else [sys.executable, "-c", code]
    environment = demo.environment | demo.client
    environment["PATH"] = f"{ROOT / 'bin'}:{environment['PATH']}"
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [word for word in SAID[number] if word not in done.stdout] == [], done.stdout
