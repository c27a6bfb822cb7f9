"""Every method in the table has what nodes call."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import BaseModel

from nodes.catalog import METHODS


@pytest.mark.parametrize("name", METHODS)
def test_a_method_has_a_configuration_and_both_of_its_sides(name: str) -> None:
    method = METHODS[name]
    assert issubclass(method.config, BaseModel)
    assert callable(method.check)
    assert callable(method.agent)
    assert callable(method.run)


def test_listing_the_methods_imports_none_of_them() -> None:
    code = "import sys, nodes.catalog; assert not [name for name in sys.modules if name.startswith('fednet.methods.')]"
    subprocess.run([sys.executable, "-c", code], check=True)
