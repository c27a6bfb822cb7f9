"""Values of other packages are found by name or by module path, and imported once."""

from __future__ import annotations

from pathlib import Path

import pytest

from fednet.plugins import PluginRegistry, missing_modules


class Unknown(Exception):
    """A name without a usable value."""


def unknown(name: str, reason: str, known: tuple[str, ...]) -> Unknown:
    return Unknown(f"{name}: {reason}", known)


@pytest.fixture
def registry() -> PluginRegistry[int]:
    return PluginRegistry("fednet.no_such_group", "VALUE", int, unknown)


def test_a_module_is_imported_once(
    registry: PluginRegistry[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plugged").mkdir()
    (tmp_path / "plugged" / "number.py").write_text("VALUE = 1000")
    monkeypatch.syspath_prepend(tmp_path)
    found = registry.find("plugged.number")
    assert found == 1000
    assert registry.find("plugged.number") is found
    assert registry.names() == ()


@pytest.mark.parametrize(
    ("name", "reason"),
    [("plain", "expected one of"), ("no_such.module", "ModuleNotFoundError"), ("os.path", "has no attribute 'VALUE'")],
)
def test_what_cannot_be_used_is_an_unknown_error(registry: PluginRegistry[int], name: str, reason: str) -> None:
    with pytest.raises(Unknown, match=reason):
        registry.find(name)


def test_missing_modules_are_named_without_importing_any() -> None:
    assert missing_modules(("json", "no_such_module", "os")) == ["no_such_module"]
