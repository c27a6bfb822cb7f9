"""Every shared option says what it is for."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from launch.commands import options

OPTIONS = [value for name, value in vars(options).items() if name.endswith(("Option", "Argument"))]


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_has_a_help_text(option: Any) -> None:
    _, info = get_args(option)
    assert info.help.endswith(".")
