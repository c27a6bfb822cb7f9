"""What a round leaves: generator and classifier for torch and safetensors, with what they have cost."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from safetensors.torch import load_model
from torch import nn

from fednet.methods.private_gan.export import cost
from fednet.methods.private_gan.messages import CLASSIFIER, GAN, PrivacyStatement


def test_after_a_round_each_site_has_folders_that_torch_loads(federation: Callable[..., Any]) -> None:
    site = federation(count=2).sites["a1"]
    for model in (GAN, CLASSIFIER):
        site.adopt(model, 3, site.initial_state(model))
    models = site.loaded.models
    for name, net in (("generator", models.gan().generator), ("classifier", models.classifier())):
        folder = site.context.folder / "models" / "a1" / name
        layers = json.loads((folder / "config.json").read_text())["layers"]
        again = nn.Sequential(*(getattr(nn, kind)(**arguments) for kind, arguments in layers)).eval()
        load_model(again, folder / "model.safetensors")
        given = torch.randn(5, 4) if name == "generator" else torch.randn(5, 1, 32, 32)
        with torch.no_grad():
            torch.testing.assert_close(again(given), net.as_layers().eval()(given))
        card = (folder / "README.md").read_text()
        assert "3 rounds" in card
        assert "NOT PRIVATE" in card, "the noise of the tests is seeded"
        assert "discriminator" not in (folder / "config.json").read_text()


@pytest.mark.parametrize(
    ("level", "expected"),
    [("example", "each picture at most epsilon 2.5 (RDP) at delta 1e-05"), ("client", "the site at most epsilon 2.5")],
)
def test_a_card_says_what_privacy_it_has_cost(level: str, expected: str) -> None:
    assert expected in cost(PrivacyStatement(level=level, private=True, delta=1e-5, epsilon_rdp=2.5))
    assert cost(PrivacyStatement(level="none", private=False)).startswith("NOT PRIVATE")
