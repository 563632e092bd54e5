"""Who imports whom: the contracts in pyproject.toml bite, and heavy libraries stay out of light processes."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source import PACKAGES, ROOT

LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")
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


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
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
    ],
)
def test_a_forbidden_import_breaks_a_contract(tmp_path: Path, importer: str, imported: str) -> None:
    lay_out_packages(tmp_path)
    (tmp_path / importer).write_text(f"import {imported}\n")
    answer = lint_imports(tmp_path)
    assert answer.returncode == 1, answer.stdout
    assert f"-> {imported.split('.', maxsplit=1)[0]} (l.1)" in answer.stdout


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("producer_api/jobs.py", "fastapi"),
        ("producer_api/jobs.py", "tasks"),
        ("workers/jobs.py", "celery"),
        ("workers/engines/text.py", "torch"),
        ("storage/jobs.py", "sqlalchemy"),
        ("tasks/jobs.py", "storage"),
        ("stoker/jobs.py", "httpx"),
    ],
)
def test_an_allowed_import_breaks_none(tmp_path: Path, importer: str, imported: str) -> None:
    lay_out_packages(tmp_path)
    (tmp_path / importer).write_text(f"import {imported}\n")
    answer = lint_imports(tmp_path)
    assert answer.returncode == 0, answer.stdout


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


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Judge the packages in `folder` by the contracts beside them."""
    return subprocess.run(
        [LINT_IMPORTS, "--no-cache", "--no-logo"], cwd=folder, check=False, capture_output=True, text=True
    )
