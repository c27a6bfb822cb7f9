"""The source's classifier: its size, its input, its features."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fednet.models.lenet import LeNet
from fednet.seeds import generator


def network(**changes: Any) -> LeNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LeNet(**changes).eval()


def pictures(channels: int = 1, side: int = 32, count: int = 4) -> torch.Tensor:
    return 2 * torch.rand(count, channels, side, side, generator=generator(0, "x")) - 1


def test_it_has_the_parameters_of_the_source() -> None:
    assert sum(parameter.numel() for parameter in network().parameters()) == 30_840


@pytest.mark.parametrize(("channels", "side", "classes"), [(1, 8, 10), (1, 28, 5), (3, 32, 100), (3, 64, 2)])
def test_any_picture_and_any_classes_fit(channels: int, side: int, classes: int) -> None:
    net = network(channels=channels, classes=classes)
    assert net(pictures(channels, side)).shape == (4, classes)


def test_the_logits_are_a_linear_map_of_the_last_features() -> None:
    net, x = network(), pictures()
    torch.testing.assert_close(net(x), net.features(x)[-1] @ net.head.weight.T + net.head.bias)
    assert [tuple(layer.shape[1:]) for layer in net.features(x)] == [(10, 14, 14), (20, 5, 5), (50,)]


def test_pictures_of_32_are_not_resized_and_mnists_mean_is_zero_inside() -> None:
    net = network()
    seen: list[torch.Tensor] = []
    net.conv1.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    for level, inside in ((0.1307, 0.0), (0.1307 + 0.3081, 1.0)):
        net(torch.full((1, 1, 32, 32), 2 * level - 1))
        torch.testing.assert_close(seen[-1], torch.full((1, 1, 32, 32), inside), atol=1e-5, rtol=0)
    x = pictures()
    net(x)
    torch.testing.assert_close(seen[-1], ((x + 1) / 2 - 0.1307) / 0.3081)


def test_a_picture_is_judged_the_same_alone_or_in_a_batch() -> None:
    net, x = network(), pictures()
    torch.testing.assert_close(net(x)[2:3], net(x[2:3]))


def test_dropout_is_there_in_training_only() -> None:
    net, x = network(), pictures()
    assert torch.equal(net(x), net(x))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net.train()
        assert not torch.equal(net(x), net(x))
        none = network(dropout=0.0).train()
        assert torch.equal(none(x), none(x))
