"""The packages have generic names on purpose, so it is proved that ours are the ones that get imported."""

import json
import subprocess
import sys

from tests.architecture.source import PACKAGES, ROOT, modules, project

LOCATE = """
import importlib.util, json, sys
print(json.dumps({name: importlib.util.find_spec(name).origin for name in sys.argv[1:]}))
"""


def test_each_package_resolves_inside_the_repository() -> None:
    found = subprocess.run(
        [sys.executable, "-c", LOCATE, *PACKAGES], cwd=ROOT, check=True, capture_output=True, text=True
    )
    expected = {name: str(ROOT / name / "__init__.py") for name in PACKAGES}
    assert json.loads(found.stdout) == expected


def test_packages_are_listed_one_by_one() -> None:
    existing = {
        module.name.removesuffix("/__init__.py").replace("/", ".")
        for module in modules(*PACKAGES)
        if module.name.endswith("/__init__.py")
    }
    assert set(project()["tool"]["setuptools"]["packages"]) == existing


def test_every_folder_with_code_is_a_package() -> None:
    # Alembic loads migrations by path: they are files of storage.migrations, not modules.
    folders = {(ROOT / module.name).parent for module in modules(*PACKAGES, "tests")}
    bare = {str(folder.relative_to(ROOT)) for folder in folders if not (folder / "__init__.py").exists()}
    assert bare <= {"storage/migrations/versions"}
