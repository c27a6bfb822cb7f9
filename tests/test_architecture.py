"""The arrow of ARCHITECTURE.md: launch -> nodes -> { fednet, protocol }, and the bans that hold everywhere."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "protocol": {"protocol"},
    "fednet": {"fednet"},
    "nodes": {"nodes", "fednet", "protocol"},
    "launch": {"launch", "nodes", "fednet", "protocol"},
}
KNOWS_NO = {
    "protocol": {"zmq", "asyncio", "socket", "time", "diffusers"},
    "fednet": {"zmq", "asyncio", "socket", "msgpack"},
}
ALSO = {"fednet/__init__.py": {"launch"}}
"""The one exception: `fednet.launch` and its like are names of the package `launch`, imported when they are used."""
NEVER = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve"}
MODULES = [path for package in MAY_IMPORT for path in sorted((ROOT / package).rglob("*.py"))]


def imported(path: Path) -> set[str]:
    """The top-level names that a module imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_import_only_along_the_arrow(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    names = imported(path) - ALSO.get(str(path.relative_to(ROOT)), set())
    assert names & MAY_IMPORT.keys() <= MAY_IMPORT[package]
    assert not names & KNOWS_NO.get(package, set())
    assert not names & NEVER


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_say_what_they_are_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_foreign_bytes_are_never_loaded_as_objects() -> None:
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
                assert (owner, node.func.attr) not in {("torch", "load"), ("yaml", "load")}, path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"eval", "exec"}, path


def test_tests_mirror_the_tree() -> None:
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        parts = path.relative_to(ROOT / "tests").parts
        if parts[0] in MAY_IMPORT:
            target = ROOT.joinpath(*parts[:-1], parts[-1].removeprefix("test_"))
            package = target.with_suffix("")
            if path.stem == f"test_{path.parent.name}":
                package = target.parent  # what only a package as a whole shows
            assert target.exists() or (package / "__init__.py").exists(), f"{path} mirrors nothing"


@pytest.mark.parametrize(
    "path",
    [path for package in ("launch", "nodes") for path in sorted((ROOT / package).rglob("*")) if path.is_file()],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_launch_and_nodes_know_no_method_by_name(path: Path) -> None:
    if path.suffix in {".pyc", ".yaml"}:
        return
    methods = [folder.parent.name for folder in (ROOT / "fednet" / "methods").glob("*/method.py")]
    named = re.compile("|".join(name.replace("_", "[-_ ]") for name in methods))
    assert not named.search(path.read_text())
