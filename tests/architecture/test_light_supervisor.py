"""The supervisor lives as long as the platform, so what only the client needs stays out of it."""

import subprocess
import sys

from tests.architecture.source import ROOT

ASK = "import sys, stoker.command_line; print('httpx' in sys.modules)"


def test_the_command_line_starts_without_the_client() -> None:
    asked = subprocess.run([sys.executable, "-c", ASK], cwd=ROOT, capture_output=True, text=True, check=True)
    assert asked.stdout == "False\n"


CTRL_C = """
import importlib.abc, runpy, sys
class CtrlC(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "stoker.commands.parser":
            raise KeyboardInterrupt
sys.meta_path.insert(0, CtrlC())
runpy.run_module("stoker", run_name="__main__")
"""


def test_ctrl_c_while_it_is_loaded_leaves_no_traceback() -> None:
    left = subprocess.run([sys.executable, "-c", CTRL_C], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (left.returncode, left.stderr) == (130, "")
