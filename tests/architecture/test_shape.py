"""Modules and functions stay small enough to be read at one sitting."""

import ast
import statistics
from collections.abc import Sequence

from tests.architecture.source import PACKAGES, length, modules, public_definitions

EVERYTHING = (*PACKAGES, "tests", "bench")
STEPS = "storage/migrations/versions/"  # a record of tables, written once and never edited: no design to read
MODULE_LINES = 400
MODULE_LINES_P90 = 250
FUNCTION_LINES = 60
FUNCTION_LINES_P90 = 30
FUNCTION_LINES_MEDIAN = 10
BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "managers", "misc"}


def p90(values: Sequence[int]) -> int:
    return sorted(values)[len(values) * 9 // 10]


def test_no_module_is_too_long() -> None:
    assert [m.name for m in modules(*EVERYTHING) if m.lines > MODULE_LINES] == []


def test_no_function_is_too_long() -> None:
    long = [
        f"{module.name}:{function.lineno} {function.name}"
        for module in modules(*EVERYTHING)
        if not module.name.startswith(STEPS)
        for function in module.functions
        if length(function) > FUNCTION_LINES
    ]
    assert long == []


def test_most_modules_and_functions_are_short() -> None:
    lengths = [length(function) for module in modules(*PACKAGES) for function in module.functions]
    assert p90([module.lines for module in modules(*PACKAGES)]) <= MODULE_LINES_P90
    assert p90(lengths) <= FUNCTION_LINES_P90
    assert statistics.median(lengths) <= FUNCTION_LINES_MEDIAN


def test_no_room_is_a_lumber_room() -> None:
    words = {
        module.name: BANNED_NAMES & set(module.name.removesuffix(".py").replace("/", "_").split("_"))
        for module in modules(*EVERYTHING)
    }
    assert {name: found for name, found in words.items() if found} == {}


def test_every_module_says_what_it_is_for() -> None:
    assert [m.name for m in modules(*EVERYTHING) if not ast.get_docstring(m.tree)] == []


def test_every_public_name_has_a_docstring() -> None:
    silent = [
        f"{module.name}:{node.lineno} {node.name}"
        for module in modules(*PACKAGES)
        if not module.name.startswith(STEPS)
        for node in public_definitions(module.tree.body)
        if not ast.get_docstring(node)
    ]
    assert silent == []


def test_imports_are_absolute() -> None:
    relative = [
        f"{module.name}:{node.lineno}"
        for module in modules(*EVERYTHING)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []
