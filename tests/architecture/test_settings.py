"""What a process is told comes in through one door: nobody else reads the environment."""

import ast

from tests.architecture.source import PACKAGES, modules

DOORS = {"producer_api/__main__.py", "workers/__main__.py", "tasks/celery_app.py", "stoker/settings.py"}
ENVIRONMENT = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}


def reads_environment(node: ast.AST) -> bool:
    """Tell whether this is `os.environ`, `os.getenv` or an import of either."""
    if isinstance(node, ast.Attribute):
        return node.attr in ENVIRONMENT and isinstance(node.value, ast.Name) and node.value.id == "os"
    if isinstance(node, ast.ImportFrom):
        return node.module == "os" and any(alias.name in ENVIRONMENT for alias in node.names)
    return False


def test_only_composition_roots_read_the_environment() -> None:
    readers = {
        module.name for module in modules(*PACKAGES) if any(reads_environment(node) for node in ast.walk(module.tree))
    }
    assert readers <= DOORS
