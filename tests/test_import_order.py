"""Any module can be imported first: no chain of imports is a cycle, imports within functions included."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("protocol", "fednet", "nodes", "launch")


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}


def statements(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """All statements, but those that only a type checker runs."""
    for node in nodes:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        yield node
        yield from statements(ast.iter_child_nodes(node))


def imported(name: str) -> set[str]:
    """The modules of the four packages that a module imports."""
    found = set()
    for node in statements(ast.parse(MODULES[name].read_text()).body):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {full if full in MODULES else node.module for full in names}
    return (found & MODULES.keys()) - {name}


def test_no_chain_of_imports_is_a_cycle() -> None:
    graph = {name: imported(name) for name in MODULES}
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))
    assert set(order) == MODULES.keys()
