"""Every data set is one value of the contract: how it is read, and what that needs."""

from __future__ import annotations

import inspect

import pytest

from fednet.data import registry
from fednet.data.contract import Dataset


@pytest.fixture(params=registry.names())
def dataset(request: pytest.FixtureRequest) -> Dataset:
    return registry.find(request.param)


def test_a_data_set_is_found_by_its_name_and_read_from_a_configuration(dataset: Dataset) -> None:
    assert registry.find(dataset.name) is dataset
    assert list(inspect.signature(dataset.read).parameters) == ["config"]
    assert dataset.summary


def test_an_extra_goes_with_the_libraries_that_it_installs(dataset: Dataset) -> None:
    assert bool(dataset.extra) == bool(dataset.requires)
