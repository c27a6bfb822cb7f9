"""Monte Carlo dropout: what it must not depend on, and what it is without dropout."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from fednet.errors import MeasureError, ModelError
from fednet.metrics.uncertainty import mc_dropout
from fednet.models.lenet import LeNet
from fednet.seeds import generator


def network(dropout: float = 0.3) -> LeNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = LeNet(dropout=dropout)
        nn.init.normal_(net.head.weight, std=0.5)
    return net.eval()


def pictures(count: int = 6) -> torch.Tensor:
    return 2 * torch.rand(count, 1, 8, 8, generator=generator(0, "x")) - 1


def test_without_dropout_every_pass_is_the_plain_answer() -> None:
    net, x = network(0.0), pictures()
    found = mc_dropout(net, x, passes=7)
    torch.testing.assert_close(found.logits, net(x).detach())
    assert torch.equal(found.predicted, net(x).argmax(1))
    torch.testing.assert_close(found.probability, net(x).softmax(1).max(1).values.detach())
    torch.testing.assert_close(found.deviation, torch.zeros(6), atol=1e-6, rtol=0)


def test_with_dropout_the_passes_differ() -> None:
    found = mc_dropout(network(0.3), pictures())
    assert float(found.deviation.min()) > 1e-3
    assert float(found.deviation.max()) <= 0.5


def test_the_mean_over_many_passes_is_the_plain_answer_of_a_linear_head() -> None:
    net, x = network(0.3), pictures(2)
    torch.testing.assert_close(mc_dropout(net, x, passes=2000).logits, net(x).detach(), atol=0.05, rtol=0)


def test_units_are_dropped_at_the_layers_rate_and_the_rest_is_scaled_up() -> None:
    """A network of one unit: its logit is 2 / (1 - p) with probability 1 - p, else 0."""
    net = nn.Sequential(nn.Dropout(0.25))
    found = mc_dropout(net, torch.tensor([[2.0, -1.0]]), passes=20_000)
    torch.testing.assert_close(found.logits, torch.tensor([[2.0, -1.0]]), atol=0.05, rtol=0)
    kept = 2.0 / 0.75
    other = -1.0 / 0.75
    states = [(0.75 * 0.75, kept, other), (0.75 * 0.25, kept, 0.0), (0.25 * 0.75, 0.0, other), (0.25 * 0.25, 0.0, 0.0)]
    values = [(weight, math.exp(a) / (math.exp(a) + math.exp(b))) for weight, a, b in states]
    mean = sum(weight * value for weight, value in values)
    spread = math.sqrt(sum(weight * (value - mean) ** 2 for weight, value in values))
    assert float(found.probability) == pytest.approx(mean, abs=0.01)
    assert float(found.deviation) == pytest.approx(spread, abs=0.01)


def test_a_pictures_result_depends_on_itself_and_the_seed_alone() -> None:
    net, x = network(), pictures()
    whole, part = mc_dropout(net, x, passes=20, seed=4), mc_dropout(net, x[3:4], passes=20, seed=4)
    torch.testing.assert_close(whole.logits[3:4], part.logits)
    torch.testing.assert_close(whole.deviation[3:4], part.deviation)
    assert not torch.allclose(whole.deviation, mc_dropout(net, x, passes=20, seed=5).deviation)


@pytest.mark.parametrize("training", [True, False])
def test_the_network_and_the_global_random_numbers_are_left_as_they_were(training: bool) -> None:
    net, x = network().train(training), pictures()
    state = torch.get_rng_state()
    mc_dropout(net, x, passes=3)
    assert torch.equal(state, torch.get_rng_state())
    assert net.training is training
    net.eval()
    assert torch.equal(net(x), net(x))


def test_a_network_without_dropout_layers_and_nothing_to_do_are_refused() -> None:
    with pytest.raises(ModelError, match="no dropout layer"):
        mc_dropout(nn.Linear(2, 2), torch.zeros(1, 2))
    for passes, count in ((0, 1), (1, 0)):
        with pytest.raises(MeasureError, match="at least one"):
            mc_dropout(network(), pictures()[:count], passes=passes)
