"""Who imports whom: the contracts in pyproject.toml bite, and heavy libraries stay out of light processes."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source import PACKAGES, ROOT

MODELS = ("torch", "vllm", "transformers", "diffusers", "peft", "sentence_transformers")
VECTORS = ("qdrant_client", "grpc", "numpy")

# Imports every module of a package while a finder notes who asks for what must stay out, installed or not.
IMPORT_ALL = """
import importlib, pkgutil, sys

package, without, *banned = sys.argv[1:]
asked = set()

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name in banned:
            asked.add(name)

sys.meta_path.insert(0, Watch())
for found in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
    if not found.name.startswith(without):
        importlib.import_module(found.name)
print(*sorted(asked))
"""


FORBIDDEN = [
    ("schemas/jobs.py", "storage"),
    ("storage/jobs.py", "tasks"),
    ("tasks/jobs.py", "workers"),
    ("tasks/jobs.py", "producer_api"),
    ("producer_api/jobs.py", "workers"),
    ("workers/jobs.py", "producer_api"),
    ("stoker/jobs.py", "schemas"),
    ("tasks/jobs.py", "stoker"),
    ("tasks/jobs.py", "fastapi"),
    ("workers/jobs.py", "starlette.requests"),
    ("stoker/jobs.py", "uvicorn"),
    ("tasks/jobs.py", "sqlalchemy"),
    ("producer_api/jobs.py", "redis.asyncio"),
    ("workers/jobs.py", "boto3"),
    ("workers/engines/jobs.py", "qdrant_client"),
    ("producer_api/jobs.py", "celery"),
    ("storage/jobs.py", "kombu"),
    ("workers/jobs.py", "torch"),
    ("workers/engines/__init__.py", "torch"),
    ("tasks/jobs.py", "transformers"),
]
ALLOWED = [
    ("producer_api/jobs.py", "fastapi"),
    ("producer_api/jobs.py", "tasks"),
    ("workers/jobs.py", "celery"),
    ("workers/engines/text.py", "torch"),
    ("storage/jobs.py", "sqlalchemy"),
    ("tasks/jobs.py", "storage"),
    ("stoker/jobs.py", "httpx"),
]

# Judges the packages in each folder by the contracts beside them, in a process of its own for each: the packages have
# the same names. Each writes its judgement into its folder and ends with its status.
LINT_ALL = """
import os, sys
from importlinter.cli import lint_imports

for folder in sys.argv[1:]:
    if not os.fork():
        os.chdir(folder)
        os.dup2(os.open("said", os.O_WRONLY | os.O_CREAT), 1)
        os._exit(lint_imports(no_cache=True))
    print(os.waitstatus_to_exitcode(os.wait()[1]))
"""

Import = tuple[str, str]


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> dict[Import, tuple[int, str]]:
    """The judgement on each import, alone in empty packages of our names: import-linter's exit status and words."""
    folders = {one: tmp_path_factory.mktemp("import") for one in (*FORBIDDEN, *ALLOWED)}
    for (importer, imported), folder in folders.items():
        lay_out_packages(folder)
        (folder / importer).write_text(f"import {imported}\n")
    command = [sys.executable, "-c", LINT_ALL, *map(str, folders.values())]
    answer = subprocess.run(command, cwd=tmp_path_factory.getbasetemp(), check=True, capture_output=True, text=True)
    statuses = map(int, answer.stdout.split())
    return {
        one: (status, (folder / "said").read_text())
        for (one, folder), status in zip(folders.items(), statuses, strict=True)
    }


@pytest.mark.parametrize("one", FORBIDDEN, ids=" ".join)
def test_a_forbidden_import_breaks_a_contract(judged: dict[Import, tuple[int, str]], one: Import) -> None:
    status, said = judged[one]
    assert status == 1, said
    assert f"-> {one[1].split('.', maxsplit=1)[0]} (l.1)" in said


@pytest.mark.parametrize("one", ALLOWED, ids=" ".join)
def test_an_allowed_import_breaks_none(judged: dict[Import, tuple[int, str]], one: Import) -> None:
    status, said = judged[one]
    assert status == 0, said


@pytest.mark.parametrize(
    ("package", "without", "banned"),
    [
        ("producer_api", "-", (*MODELS, *VECTORS)),
        ("tasks", "-", MODELS),
        ("workers", "workers.engines.", MODELS),
        ("stoker", "-", (*MODELS, *VECTORS, "sqlalchemy", "celery", "fastapi")),
    ],
)
def test_a_light_process_never_asks_for_a_heavy_library(package: str, without: str, banned: tuple[str, ...]) -> None:
    answer = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, package, without, *banned],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.split() == []


def lay_out_packages(folder: Path) -> None:
    """Make empty packages of our names, held to our contracts."""
    shutil.copy(ROOT / "pyproject.toml", folder)
    for package in (*PACKAGES, "workers/engines"):
        (folder / package).mkdir()
        (folder / package / "__init__.py").touch()
