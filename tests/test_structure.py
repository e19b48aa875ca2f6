"""The shape of the house: short modules, no circles of imports, few duck tests."""

from __future__ import annotations

import ast
import statistics
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
ROOMS = {
    "edgemtl": ROOT / "edgemtl",
    "edgemtl_models": ROOT / "models" / "edgemtl_models",
    "edgemtl_export": ROOT / "export" / "edgemtl_export",
    "edgemtl_runtime": ROOT / "runtime" / "edgemtl_runtime",
}
FILES = [file for folder in ROOMS.values() for file in sorted(folder.rglob("*.py"))]


def test_modules_are_short() -> None:
    lines = {file: len(file.read_text().splitlines()) for file in FILES}
    long = {str(file.relative_to(ROOT)): count for file, count in lines.items() if count > 350}
    assert not long and statistics.median(count for count in lines.values() if count > 1) <= 120


def test_few_objects_are_asked_what_they_have() -> None:
    calls = [
        f"{file.relative_to(ROOT)}:{node.lineno}"
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "hasattr"
    ]
    assert len(calls) <= 5, calls


@pytest.mark.parametrize("room", ROOMS)
def test_no_circle_of_imports(room: str) -> None:
    """Imports inside functions count; those for types alone do not."""
    graph = grimp.build_graph(room, exclude_type_checking_imports=True, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    cycles = strongly_connected(imports)
    assert not cycles, "\n".join(" <-> ".join(sorted(cycle)) for cycle in cycles)


def strongly_connected(imports: dict[str, set[str]]) -> list[set[str]]:
    """Return the groups of modules that import each other, directly or by others."""
    reach = {module: set(direct) for module, direct in imports.items()}
    changed = True
    while changed:
        changed = False
        for reached in reach.values():
            more = set().union(*(reach.get(other, set()) for other in reached)) - reached
            if more:
                reached |= more
                changed = True
    groups = [{other for other in reached if module in reach.get(other, set())} for module, reached in reach.items()]
    return [group for index, group in enumerate(groups) if len(group) > 1 and group not in groups[:index]]
