"""Every method, built in or not, is one value of the contract: both sides, what it needs, and what it offers."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest
from pydantic import BaseModel

import fednet
from fednet.methods import registry
from fednet.methods.contract import Drawer, Method
from fednet.methods.sample_request import SampleRequest


@pytest.fixture(params=registry.names())
def method(request: pytest.FixtureRequest) -> Method:
    return registry.find(request.param)


def test_a_method_has_a_configuration_with_defaults(method: Method) -> None:
    assert registry.find(method.name) is method
    assert issubclass(method.config, BaseModel)
    assert method.config() == method.config.model_validate({})
    assert method.summary


def test_what_is_imported_lazily_is_there_and_called_alike(method: Method) -> None:
    parts: dict[Callable[..., Any] | None, int] = {
        method.site: 3, method.job: 5, method.check: 2, method.agree: 2, method.announcer: 3,
    }  # fmt: skip
    if isinstance(method.drawer, Drawer):
        parts |= {method.drawer.draw: 3, method.drawer.from_checkpoint: 2}
    for part, arguments in parts.items():
        if part is not None:
            function = resolve_name(part.args[0]) if isinstance(part, partial) else part
            inspect.signature(function).bind(*range(arguments))


def test_what_is_preloaded_is_there(method: Method) -> None:
    for module in method.preload:
        assert importlib.util.find_spec(module.split(".")[0])
        if module.startswith("fednet."):
            assert Path(fednet.__file__).parent.joinpath(*module.split(".")[1:]).with_suffix(".py").is_file()


def test_a_command_has_a_help_text_and_takes_the_cluster_first(method: Method) -> None:
    for command in method.commands.values():
        first, *_ = inspect.signature(command).parameters.values()
        assert first.annotation == "Cluster"
        assert inspect.getdoc(command)


def test_what_can_be_drawn_has_a_request_of_its_own(method: Method) -> None:
    if isinstance(method.drawer, Drawer):
        assert issubclass(method.drawer.request, SampleRequest)


def test_an_extra_goes_with_the_libraries_that_it_installs(method: Method) -> None:
    assert bool(method.extra) == bool(method.requires)
