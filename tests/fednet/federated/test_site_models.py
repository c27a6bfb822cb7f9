"""What a site has of its models: beginnings that nothing changes, states of the right shape, and no other."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from fednet.api import SiteContext
from fednet.errors import MethodError, ModelError
from fednet.federated.site_models import SiteModels, initial_network, network_from_state


def made() -> SiteModels:
    return SiteModels("a1", {"one": {"x": torch.zeros(2)}, "two": {"y": torch.ones(1)}})


def test_a_model_becomes_what_it_is_given_and_begins_as_ever() -> None:
    models, given = made(), {"x": torch.ones(2)}
    models.set_state("one", given, "round 1")
    given["x"].zero_()  # what happens to it afterwards reaches nobody
    assert models.current_state("one")["x"].tolist() == [1, 1]
    assert models.initial_state("one")["x"].tolist() == [0, 0]
    assert models.current_state("two")["y"].tolist() == [1]


def test_what_does_not_fit_changes_nothing() -> None:
    models = made()
    for state in ({"x": torch.zeros(3)}, {"z": torch.zeros(2)}, {"x": torch.full((2,), torch.nan)}):
        with pytest.raises(ModelError, match="round 1"):
            models.set_state("one", state, "round 1")
    assert models.current_state("one")["x"].tolist() == [0, 0]
    with pytest.raises(MethodError, match="a1: unknown model 'three'; expected one of one, two"):
        models.current_state("three")


def test_weights_come_from_the_seed_and_the_name_alone(tmp_path: Path) -> None:
    def weights(seed: int, model: str) -> list[float]:
        torch.rand(1)  # the global state is neither read nor left changed
        before = torch.get_rng_state()
        net = initial_network(seed, model, make=lambda: nn.Linear(3, 1))
        assert torch.equal(torch.get_rng_state(), before)
        return net.weight.flatten().tolist()

    assert weights(0, "one") == weights(0, "one")
    assert len({tuple(weights(seed, model)) for seed in (0, 1) for model in ("one", "two")}) == 4
    site = SiteContext("a1", 0, 1, 0, "nowhere:0", tmp_path)
    net = nn.Linear(1, 1)
    with pytest.raises(ModelError, match="a1 cannot use the device 'nowhere:0'"):
        network_from_state(net, net.state_dict(), site)
