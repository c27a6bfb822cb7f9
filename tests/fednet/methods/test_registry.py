"""Methods are found by entry point or by module path, and what is wrong with one is a single error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fednet.errors import UnknownMethod
from fednet.methods import registry

BUILT_IN = ("cmtii", "fedbagan", "novelty", "private-gan", "regression", "score-inference")


def test_the_built_in_methods_are_registered() -> None:
    assert set(BUILT_IN) <= set(registry.names())


def test_listing_the_methods_imports_none_of_them() -> None:
    code = (
        "import sys; from fednet.methods import registry; assert registry.names(); "
        "assert not [name for name in sys.modules if name.startswith('fednet.methods.') and name.endswith('.method')]; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_reading_a_method_imports_none_of_the_libraries_of_its_extra() -> None:
    code = (
        "import sys; from fednet.methods import registry; "
        "needed = {module for name in registry.names() for module in registry.find(name).requires}; "
        "assert not needed & sys.modules.keys(), needed & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unregistered_name_lists_the_known_ones() -> None:
    with pytest.raises(UnknownMethod, match=r"unknown method 'novelti'.*expected one of .*novelty") as caught:
        registry.find("novelti")
    assert "novelty" in caught.value.known


def test_a_module_path_is_a_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "from fednet.methods.regression.method import METHOD as known\nMETHOD = known\n"
    (tmp_path / "registry_outside").mkdir()
    (tmp_path / "registry_outside" / "__init__.py").touch()
    (tmp_path / "registry_outside" / "method.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    assert registry.find("registry_outside.method") is registry.find("regression")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("raise RuntimeError('no licence')", "RuntimeError: no licence"),
        ("import a_module_that_is_not_there", "No module named 'a_module_that_is_not_there'"),
        ("METHOD = 3", "is a int; expected a fednet.methods.contract.Method"),
        ("", "has no attribute 'METHOD'"),
    ],
)
def test_a_broken_module_says_what_is_wrong(
    source: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "method.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("broken.method", None)
    sys.modules.pop("broken", None)
    with pytest.raises(UnknownMethod, match=message):
        registry.find("broken.method")
