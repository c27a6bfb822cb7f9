"""Capabilities of sites: what they must hold, and that the sites fit each other."""

from __future__ import annotations

import pytest

from fednet.errors import MethodError
from fednet.methods.fedbagan.messages import FedBaganCapabilities, read_fedbagan_capabilities


def capabilities(**changes: object) -> str:
    values = {"classes": ("rows", "columns"), "shape": (1, 8, 8), "pictures": 20, "latent": 4}
    return FedBaganCapabilities.model_construct(**(values | changes)).model_dump_json()  # type: ignore[arg-type]


def test_sites_may_have_different_numbers_of_pictures() -> None:
    read = read_fedbagan_capabilities({"b": capabilities(pictures=7), "a": capabilities()})
    assert {name: one.pictures for name, one in read.items()} == {"a": 20, "b": 7}


@pytest.mark.parametrize("changes", [{"pictures": 0}, {"classes": ("rows",)}, {"latent": 0}])
def test_what_no_site_can_have_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(MethodError, match="a has no capabilities of the method fedbagan"):
        read_fedbagan_capabilities({"a": capabilities(**changes)})


def test_sites_with_different_models_are_refused() -> None:
    with pytest.raises(MethodError, match="b and a differ in latent"):
        read_fedbagan_capabilities({"a": capabilities(), "b": capabilities(latent=5)})
