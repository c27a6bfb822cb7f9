"""The arrow of ARCHITECTURE.md: launch -> nodes -> { fednet, protocol }, and the bans that hold everywhere."""

from __future__ import annotations

import ast
import re
from functools import cache
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


@cache
def tree(path: Path) -> ast.Module:
    """What a module's source says, parsed once for all tests."""
    return ast.parse(path.read_text())


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """The imports and calls of a module, wherever in it: what tests look at."""
    return tuple(node for node in ast.walk(tree(path)) if isinstance(node, ast.Import | ast.ImportFrom | ast.Call))


def imported(path: Path) -> set[str]:
    """The top-level names that a module imports, wherever in it."""
    names = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


def test_modules_import_only_along_the_arrow() -> None:
    for path in MODULES:
        package = path.relative_to(ROOT).parts[0]
        names = imported(path) - ALSO.get(str(path.relative_to(ROOT)), set())
        assert names & MAY_IMPORT.keys() <= MAY_IMPORT[package], path
        assert not names & KNOWS_NO.get(package, set()), path
        assert not names & NEVER, path


def test_modules_say_what_they_are_for() -> None:
    assert not [path for path in MODULES if not ast.get_docstring(tree(path))]


def test_foreign_bytes_are_never_loaded_as_objects() -> None:
    for path in MODULES:
        for node in nodes(path):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
                assert (owner, node.func.attr) not in {("torch", "load"), ("yaml", "load")}, path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"eval", "exec"}, path


def test_no_module_is_searched_for_a_name_that_is_not_written_here() -> None:
    """A dtype, a layer or a function that a peer names is looked up in a table, never in torch."""
    for path in MODULES:
        modules = {
            (alias.asname or alias.name).split(".")[0]
            for node in nodes(path)
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        for node in nodes(path):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr":
                owner, name, *_ = node.args
                while isinstance(owner, ast.Attribute):
                    owner = owner.value
                assert not (isinstance(owner, ast.Name) and owner.id in modules) or isinstance(name, ast.Constant), path


WRITES = {
    "fednet/files.py",
    "fednet/methods/cmtii/model_cache.py",  # an empty file to lock
    "launch/commands/init.py",  # a new method's source
    "launch/run/fork_server.py",  # a pipe
}
"""The modules that open a file to write; all others write by `fednet.files`, which says who may read it."""


def test_files_are_written_by_one_function() -> None:
    found = set()
    for path in MODULES:
        for node in nodes(path):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            modes = [str(arg.value) for arg in node.args if isinstance(arg, ast.Constant)]
            opens = name == "open" and any(re.fullmatch(r"[wax]b?\+?", mode) for mode in modes)
            if opens or name in {"write_text", "write_bytes", "FileIO"}:
                found.add(str(path.relative_to(ROOT)))
    assert found == WRITES


WALKS = {
    "Walk: a score, from a site's network to the picture": 22,
    "Walk: an update, from a site to the adopted model": 25,
}
"""The most files that one visits, by the heading of the walk in ARCHITECTURE.md."""


@pytest.mark.parametrize(("heading", "most"), WALKS.items())
def test_walks_are_short_and_name_what_is_there(heading: str, most: int) -> None:
    section = (ROOT / "ARCHITECTURE.md").read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| *(\d+) \| `([^`]+)` \| (.*) \|$", section, re.MULTILINE)
    assert [int(number) for number, _, _ in rows] == list(range(1, len(rows) + 1))
    assert len({path for _, path, _ in rows}) == len(rows) <= most
    for _, path, text in rows:
        source = (ROOT / path).read_text()
        for name in re.findall(r"`(\w+)`", text):
            assert re.search(rf"(def|class) {name}\b", source), f"{path} has no {name}"


def test_tests_mirror_the_tree() -> None:
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        parts = path.relative_to(ROOT / "tests").parts
        if parts[0] in MAY_IMPORT:
            folder, words = ROOT.joinpath(*parts[:-1]), path.stem.split("_")[1:]
            names = ["_".join(words[:count]) for count in range(1, len(words) + 1)]  # test_<module>_<subject>.py
            mirrored = [folder / f"{name}.py" for name in names] + [folder / name / "__init__.py" for name in names]
            if path.stem == f"test_{path.parent.name}":
                mirrored.append(folder / "__init__.py")  # what only a package as a whole shows
            assert any(map(Path.exists, mirrored)), f"{path} mirrors nothing"


MIRRORED_BY = {
    "announcer.py": Path("tests/fednet/methods/common/test_announcer.py"),
    "method.py": Path("tests/fednet/methods/test_contract.py"),
    "attempt_values.py": Path("tests/protocol/machines/test_attempt.py"),
    "coordinator_values.py": Path("tests/protocol/machines/test_coordinator_simulation.py"),
    "events.py": Path("tests/protocol/machines/test_machine.py"),
    "participant_values.py": Path("tests/protocol/machines/test_participant.py"),
    "reduction_values.py": Path("tests/nodes/rounds/test_reduction_values.py"),
}
"""Modules of the same shape in every method's folder, and values of one machine, which are tested together."""


def test_every_module_that_does_something_is_mirrored_by_a_test() -> None:
    for path in MODULES:
        does = any(isinstance(node, ast.ClassDef | ast.FunctionDef) for node in tree(path).body)
        if does and path.name not in {"__init__.py", "__main__.py"}:
            folder = ROOT / "tests" / path.relative_to(ROOT).parent
            own = [*folder.glob(f"test_{path.stem}.py"), *folder.glob(f"test_{path.stem}_*.py")]
            assert own or (path.name in MIRRORED_BY and (ROOT / MIRRORED_BY[path.name]).exists()), path


def test_modules_are_short() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in [*MODULES, *(ROOT / "tests").rglob("*.py")]}
    assert not {path: length for path, length in lengths.items() if length > 350}


def test_no_class_name_stands_for_two_things() -> None:
    places: dict[str, list[Path]] = {}
    for path in MODULES:
        for node in tree(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(path)
    assert not {name: paths for name, paths in places.items() if len(paths) > 1}


def test_no_retired_word_comes_back() -> None:
    retired = re.search(r"Retired words: ([^.]+)\.", (ROOT / "CHANGELOG.md").read_text())
    assert retired
    words = re.findall(r"\w+", retired[1])
    found = re.compile(rf"\b({'|'.join(words)})\b")
    folders = [folder for folder in ROOT.iterdir() if folder.is_dir() and not folder.name.startswith(".")]
    documents = [path for path in ROOT.glob("*.md") if path.name != "CHANGELOG.md"]
    documents += [path for folder in folders for path in folder.rglob("*.md")]
    for path in [*MODULES, *documents]:
        assert not (word := found.search(path.read_text())), f"{path}: {word}"


def test_launch_and_nodes_know_no_method_by_name() -> None:
    methods = [folder.parent.name for folder in (ROOT / "fednet" / "methods").glob("*/method.py")]
    named = re.compile("|".join(name.replace("_", "[-_ ]") for name in methods))
    files = [path for package in ("launch", "nodes") for path in (ROOT / package).rglob("*") if path.is_file()]
    assert not [path for path in files if path.suffix not in {".pyc", ".yaml"} and named.search(path.read_text())]
