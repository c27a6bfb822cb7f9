"""Every method, built in or not, is one value of the contract: both sides, what it needs, and what it offers."""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path

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


def test_both_sides_are_called_alike(method: Method) -> None:
    assert list(inspect.signature(method.site).parameters) == ["config", "context", "overrides"]
    assert list(inspect.signature(method.job).parameters) == ["config", "network", "folder", "seed", "progress"]


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
