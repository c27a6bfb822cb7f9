"""The score network: its scales, its sight of t and its checkpoints."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from fednet.diffusion.sde import SDE, VE, VP, SubVP
from fednet.errors import ModelError
from fednet.models.config import UNetConfig
from fednet.models.unet import ScoreNet, digest, restore, save
from fednet.seeds import generator

SHAPE = (1, 4, 4)


def network(seed: int = 0, sde: SDE | None = None, **changes: Any) -> ScoreNet:
    """A small network whose last layer is not zero, as it is before training."""
    config = UNetConfig(**{"channels": (8, 8), "groups": 4, "attention": False, **changes})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = ScoreNet(config, sde or VP(), SHAPE, 3)
        torch.nn.init.normal_(net.unet.conv_out.weight, std=0.3)
    return net.eval().requires_grad_(False)


def noise(count: int = 5) -> torch.Tensor:
    return torch.randn(count, *SHAPE, generator=generator(0, "x"))


@pytest.mark.parametrize("sde", [VE(), VP(), SubVP()], ids=lambda sde: sde.kind)
def test_before_training_the_score_is_that_of_a_normal_density(sde: SDE) -> None:
    config = UNetConfig(channels=(8,), groups=4, attention=False, data_scale=0.7)
    net, x, t = ScoreNet(config, sde, SHAPE, 3), noise(), torch.tensor([0.001, 0.1, 0.4, 0.8, 1.0])
    alpha, std = sde.marginal(t)
    truth = -x / ((alpha * 0.7) ** 2 + std**2)[:, None, None, None]
    torch.testing.assert_close(net.score(x, t), truth)


def test_the_score_is_the_noise_over_its_deviation() -> None:
    net, x, t = network(), noise(), torch.tensor(0.3)
    torch.testing.assert_close(net.score(x, t), -net.noise(x, t) / VP().marginal(t)[1])


@pytest.mark.parametrize("sde", [VE(), VP(), SubVP()], ids=lambda sde: sde.kind)
def test_the_network_sees_t(sde: SDE) -> None:
    net = network(sde=sde)
    told: list[torch.Tensor] = []
    net.unet.register_forward_pre_hook(lambda _module, inputs: told.append(inputs[1]))
    seen = []
    net.unet.register_forward_hook(lambda _module, _inputs, output: seen.append(output[0]))
    for t in (0.01, 0.1, 0.5, 0.9):
        alpha, std = sde.marginal(torch.tensor(t))
        net.noise(noise() * ((alpha * 0.8) ** 2 + std**2).sqrt(), torch.tensor(t))
    assert [float(t[0]) for t in told] == sorted(float(t[0]) for t in told)
    assert float(told[-1][0] - told[0][0]) > 300
    for one, two in pairwise(seen):
        assert float((one - two).abs().max()) > 1e-3


def test_one_time_for_all_is_the_same_time_for_each() -> None:
    net, x = network(), noise()
    torch.testing.assert_close(net.noise(x, torch.tensor(0.3)), net.noise(x, torch.full((5,), 0.3)))


def test_guidance_goes_from_any_class_through_the_label_and_beyond() -> None:
    net, x, t, labels = network(conditional=True), noise(), torch.tensor(0.4), torch.tensor([0, 1, 2, 0, 1])
    free, told = net.score(x, t), net.score(x, t, labels)
    assert not torch.allclose(free, told)
    torch.testing.assert_close(net.score(x, t, labels, guidance=0.0), free)
    torch.testing.assert_close(net.score(x, t, labels, guidance=3.0), free + 3 * (told - free))
    torch.testing.assert_close(net.score(x, t, torch.full((5,), 3)), free)


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path: Path) -> None:
    one, two, path = network(0), network(1), tmp_path / "deep" / "net.safetensors"
    save(one, path, {"trained": "yes"})
    assert restore(two, path) == {"trained": "yes"}
    assert torch.equal(one.score(noise(), torch.tensor(0.3)), two.score(noise(), torch.tensor(0.3)))
    assert [file.name for file in path.parent.iterdir()] == ["net.safetensors"]


def test_equal_checkpoints_are_equal_bytes(tmp_path: Path) -> None:
    net, notes, path = network(), {name: name for name in "zyx"}, tmp_path / "net.safetensors"
    files = set()
    for _ in range(8):
        save(net, path, notes)
        files.add(path.read_bytes())
    assert len(files) == 1


@pytest.mark.parametrize(
    ("other", "key"),
    [({"channels": (8, 16)}, "channels"), ({"conditional": True}, "conditional"), ({"sde": VE()}, "sde")],
)
def test_the_weights_of_another_architecture_are_refused(tmp_path: Path, other: dict[str, Any], key: str) -> None:
    save(network(), tmp_path / "net.safetensors")
    fresh = network(**other)
    before = fresh.score(noise(), torch.tensor(0.3))
    with pytest.raises(ModelError) as refusal:
        restore(fresh, tmp_path / "net.safetensors")
    for part in (key, digest(network().describe()), digest(fresh.describe()), "net.safetensors"):
        assert part in str(refusal.value)
    assert torch.equal(before, fresh.score(noise(), torch.tensor(0.3)))


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    with pytest.raises(ModelError, match="not a readable checkpoint"):
        restore(network(), path)
    path.write_bytes(b"\x00" * 100)
    with pytest.raises(ModelError, match="not a readable checkpoint"):
        restore(network(), path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(ModelError, match="does not say which network"):
        restore(network(), path)
    save_file({"a": torch.zeros(1)}, path, metadata={"architecture": "resnet"})
    with pytest.raises(ModelError, match="not a readable checkpoint"):
        restore(network(), path)
    save_file({"a": torch.zeros(1)}, path, metadata={"architecture": json.dumps(network().describe())})
    with pytest.raises(ModelError, match="does not hold the weights"):
        restore(network(), path)


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(ModelError, match=r"model\.groups"):
        network(groups=3)
    with pytest.raises(ModelError, match="4 x 4"):
        network(channels=(8, 8, 8, 8))
    with pytest.raises(ValidationError):
        UNetConfig(channels=())


def test_colour_and_attention_fit_in() -> None:
    net = ScoreNet(UNetConfig(channels=(8, 16), groups=4, attention=True), VP(), (3, 8, 8), 0)
    assert net.score(torch.randn(2, 3, 8, 8), torch.tensor(0.5)).shape == (2, 3, 8, 8)
