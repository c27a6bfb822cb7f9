"""FedProx with mu 0 is FedAvg bit for bit; more mu, less drift."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fednet.errors import ModelError
from fednet.federated.proximal import drift, proximal_term
from fednet.federated.state import detached_copy, digest


def trained(mu: float | None, steps: int = 30) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A small net after some steps, and where it began; mu None trains without the term."""
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(64, 5, generator=generator), torch.randint(0, 3, (64,), generator=generator)
    first = torch.nn.Linear(5, 16)
    net = torch.nn.Sequential(first, torch.nn.ReLU(), torch.nn.Linear(16, 3))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
        first.weight[:, 0] = -0.0
    anchor = detached_copy(net.state_dict())
    optimiser = torch.optim.SGD(net.parameters(), lr=0.3, momentum=0.5)
    for step in range(steps):
        batch = slice(16 * (step % 4), 16 * (step % 4) + 16)
        loss = torch.nn.functional.cross_entropy(net(x[batch]), y[batch])
        if mu is not None:
            loss = loss + proximal_term(dict(net.named_parameters()), anchor, mu)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return detached_copy(net.state_dict()), anchor


def test_mu_zero_is_fedavg_bit_for_bit() -> None:
    (plain, anchor), (proximal, _) = trained(None), trained(0.0)
    assert digest(plain) == digest(proximal) != digest(anchor)


def test_mu_zero_ignores_an_anchor_that_is_not_finite() -> None:
    weight = torch.ones(2, requires_grad=True)
    loss = weight.sum() + proximal_term({"w": weight}, {"w": torch.full((2,), float("inf"))}, 0.0)
    loss.backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [1, 1]


def test_drift_falls_with_mu() -> None:
    drifts = [drift(*trained(mu)) for mu in (0.0, 0.1, 1.0, 3.0)]
    assert drifts == sorted(drifts, reverse=True)
    assert drifts[-1] < 0.2 * drifts[0]


def test_its_value_and_its_gradient_are_the_papers() -> None:
    weights = {"a": torch.tensor([[1.0, 2.0]], requires_grad=True), "b": torch.tensor(3.0, requires_grad=True)}
    anchor = {"a": torch.tensor([[0.0, 4.0]]), "b": torch.tensor(2.0), "n": torch.tensor(5)}
    term = proximal_term(weights, anchor, 0.4)
    assert term.item() == pytest.approx(0.2 * (1 + 4 + 1))
    term.backward()
    assert weights["a"].grad is not None
    assert weights["b"].grad is not None
    assert weights["a"].grad.flatten().tolist() == pytest.approx([0.4, -0.8])
    assert weights["b"].grad.item() == pytest.approx(0.4)


def test_the_term_of_no_parameters_is_zero() -> None:
    assert proximal_term({}, {}, 1.0).item() == 0.0


def test_drift_is_the_squared_norm_over_floats() -> None:
    state = {"w": torch.tensor([3.0, 0.0]), "c": torch.tensor(1 + 2j), "n": torch.tensor(100)}
    anchor = {"w": torch.tensor([0.0, 4.0]), "c": torch.tensor(0j), "n": torch.tensor(0)}
    assert drift(state, anchor) == 30.0
    assert drift(state, state) == 0.0


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ModelError, match="'w'"):
        proximal_term({"w": torch.ones(2)}, {"w": torch.ones(3)}, 0.0)
    with pytest.raises(ModelError, match="'w'"):
        drift({"w": torch.ones(2)}, {})
    for mu in (-0.1, float("nan")):
        with pytest.raises(ValueError, match="mu"):
            proximal_term({}, {}, mu)
