"""The supervisor lives as long as the platform, so what only the client needs stays out of it."""

import subprocess
import sys

from tests.architecture.source import ROOT

ASK = "import sys, stoker.__main__; print('httpx' in sys.modules)"


def test_the_command_line_starts_without_the_client() -> None:
    asked = subprocess.run([sys.executable, "-c", ASK], cwd=ROOT, capture_output=True, text=True, check=True)
    assert asked.stdout == "False\n"
