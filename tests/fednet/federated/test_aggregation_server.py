"""Server steps against their formulas over several rounds; beta 0 and rate 1 are no step at all."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from fednet.errors import ModelError
from fednet.federated.aggregation import server_step
from fednet.federated.blocks import BLOCK
from fednet.federated.config import Adagrad, Adam, Momentum, Replace, ServerConfig, Yogi
from fednet.federated.state import digest, model_tensors, optimiser_slots, pack, unpack

Draw = Callable[..., dict[str, Tensor]]
SERVERS = [Momentum(), Adam(), Yogi(), Adagrad()]


def rounds(config: ServerConfig, dtype: torch.dtype = torch.float64) -> tuple[list[Tensor], Tensor]:
    """Aggregates of five rounds, and what the model is after them; stored and read again in between."""
    generator = torch.Generator().manual_seed(0)
    aggregates = [torch.randn(3, 4, generator=generator, dtype=torch.float64).to(dtype) for _ in range(5)]
    state = {"w": torch.ones(3, 4, dtype=dtype)}
    for aggregate in aggregates:
        state = server_step(config, unpack(pack(state)), {"w": aggregate})
    return aggregates, state["w"]


def test_replacing_is_the_aggregate(state: Draw) -> None:
    aggregate = state(1)
    after = server_step(Replace(), state(0), aggregate)
    assert digest(after) == digest(aggregate)
    after["float32.1"].zero_()
    assert aggregate["float32.1"].any()


def test_momentum_without_momentum_replaces(state: Draw) -> None:
    base, aggregate = state(0, BLOCK + 3), state(1, BLOCK + 3)
    after = model_tensors(server_step(Momentum(rate=1.0, beta=0.0), base, aggregate))
    assert after.keys() == aggregate.keys()
    for key, tensor in aggregate.items():
        assert torch.allclose(after[key].to(torch.complex128), tensor.to(torch.complex128), rtol=1e-14, atol=1e-15), key


def test_momentum_is_the_papers() -> None:
    aggregates, found = rounds(Momentum(rate=0.7, beta=0.6))
    weight, velocity = np.ones((3, 4)), np.zeros((3, 4))
    for aggregate in aggregates:
        velocity = 0.6 * velocity + (weight - aggregate.numpy())
        weight = weight - 0.7 * velocity
    assert np.allclose(found, weight, rtol=1e-12)


def test_momentum_is_torchs_sgd() -> None:
    aggregates, found = rounds(Momentum(rate=0.5, beta=0.9))
    weight = torch.nn.Parameter(torch.ones(3, 4, dtype=torch.float64))
    optimiser = torch.optim.SGD([weight], lr=0.5, momentum=0.9)
    for aggregate in aggregates:
        weight.grad = weight.detach() - aggregate
        optimiser.step()
    assert torch.allclose(found, weight.detach(), rtol=1e-12)


def test_adam_is_the_papers() -> None:
    config = Adam(rate=0.3, beta1=0.8, beta2=0.95, tau=0.01)
    aggregates, found = rounds(config)
    weight, mean, square = np.ones((3, 4)), np.zeros((3, 4)), np.full((3, 4), 0.01**2)
    for aggregate in aggregates:
        change = aggregate.numpy() - weight
        mean = 0.8 * mean + 0.2 * change
        square = 0.95 * square + 0.05 * change**2
        weight = weight + 0.3 * mean / (np.sqrt(square) + 0.01)
    assert np.allclose(found, weight, rtol=1e-12)


def test_yogi_is_the_papers() -> None:
    """Reddi et al. 2021, algorithm 2: v <- v - (1 - b2) change^2 sign(v - change^2)."""
    aggregates, found = rounds(Yogi(rate=0.3, beta1=0.8, beta2=0.95, tau=0.5))
    weight, mean, square = np.ones((3, 4)), np.zeros((3, 4)), np.full((3, 4), 0.5**2)
    signs = set()
    for aggregate in aggregates:
        change = aggregate.numpy() - weight
        mean = 0.8 * mean + 0.2 * change
        signs |= set(np.sign(square - change**2).ravel().tolist())
        square = square - 0.05 * change**2 * np.sign(square - change**2)
        weight = weight + 0.3 * mean / (np.sqrt(square) + 0.5)
    assert signs == {-1.0, 1.0}
    assert np.allclose(found, weight, rtol=1e-12)


def test_adagrad_is_the_papers() -> None:
    """Reddi et al. 2021, algorithm 2: v <- v + change^2."""
    aggregates, found = rounds(Adagrad(rate=0.3, beta1=0.5, tau=0.01))
    weight, mean, square = np.ones((3, 4)), np.zeros((3, 4)), np.full((3, 4), 0.01**2)
    for aggregate in aggregates:
        change = aggregate.numpy() - weight
        mean = 0.5 * mean + 0.5 * change
        square = square + change**2
        weight = weight + 0.3 * mean / (np.sqrt(square) + 0.01)
    assert np.allclose(found, weight, rtol=1e-12)


@pytest.mark.parametrize("config", SERVERS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_short_floats_step_like_long_ones(config: ServerConfig, dtype: torch.dtype) -> None:
    _, short = rounds(config, dtype)
    _, long = rounds(config)
    assert short.dtype is dtype
    assert torch.allclose(short.double(), long, atol=40 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("config", SERVERS)
def test_steps_know_nothing_of_order_or_threads(state: Draw, config: ServerConfig) -> None:
    before, found = torch.get_num_threads(), set()
    try:
        for threads in (1, 4):
            torch.set_num_threads(threads)
            base, aggregate = state(0, 2 * BLOCK), state(1, 2 * BLOCK)
            once = server_step(config, base, aggregate)
            found.add(digest(server_step(config, once, aggregate)))
            once = server_step(config, dict(reversed(base.items())), dict(reversed(aggregate.items())))
            found.add(digest(server_step(config, dict(reversed(once.items())), aggregate)))
    finally:
        torch.set_num_threads(before)
    assert len(found) == 1


@pytest.mark.parametrize("config", SERVERS)
def test_no_change_is_no_step_and_nothing_is_written_to(state: Draw, config: ServerConfig) -> None:
    base = state(3)
    name = digest(base)
    after = server_step(config, base, base)
    assert digest(model_tensors(after)) == name == digest(base)
    kept = digest(after)
    server_step(config, after, state(4))
    assert digest(after) == kept


def test_counters_are_replaced_and_have_no_slots() -> None:
    base = {"n": torch.tensor(3), "b": torch.tensor(True), "w": torch.ones(2)}
    aggregate = {"n": torch.tensor(9), "b": torch.tensor(False), "w": torch.ones(2)}
    after = server_step(Adam(), base, aggregate)
    assert (after["n"].item(), after["b"].item()) == (9, False)
    assert set(optimiser_slots(after)) == {"adam-mean/w", "adam-square/w"}


@pytest.mark.parametrize("config", SERVERS)
def test_running_statistics_take_the_mean(config: ServerConfig) -> None:
    """Stepped like weights, a variance that falls from 1 to .05 is below 0 after two rounds of momentum."""
    state = {"norm.running_var": torch.tensor([1.0]), "norm.running_mean": torch.tensor([2.0]), "w": torch.ones(1)}
    for value in (0.4, 0.05, 0.05):
        found = {"norm.running_var": torch.tensor([value]), "norm.running_mean": torch.tensor([-value])}
        state = server_step(config, state, {**found, "w": torch.zeros(1)})
        assert state["norm.running_var"].tolist() == pytest.approx([value])
        assert state["norm.running_mean"].tolist() == pytest.approx([-value])
    assert {name.rpartition("/")[2] for name in optimiser_slots(state)} == {"w"}


def test_another_optimisers_slots_are_left_behind() -> None:
    model = {"w": torch.ones(2)}
    after = server_step(Momentum(), server_step(Adam(), model, model), model)
    assert set(optimiser_slots(after)) == {"velocity/w"}
    assert optimiser_slots(server_step(Replace(), after, model)) == {}


def test_what_does_not_fit_is_refused() -> None:
    base = {"w": torch.ones(2)}
    with pytest.raises(ModelError, match="the aggregate"):
        server_step(Replace(), base, {"w": torch.ones(3)})
    with pytest.raises(ModelError, match="slot 'velocity/w'"):
        server_step(Momentum(), {**base, "server/velocity/w": torch.ones(3)}, base)


def test_a_step_out_of_range_is_refused() -> None:
    base = {"w": torch.tensor([-6e4], dtype=torch.float16)}
    with pytest.raises(ModelError, match="the server's step"):
        server_step(Momentum(rate=2.0), base, {"w": -base["w"]})
