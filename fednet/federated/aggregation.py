"""Aggregation: the configured rule combines contributions, then the server optimiser takes its step.

There is no server: every peer takes the same step from the same base and aggregate, so all end with the same bytes,
whatever the order of the contributions and the number of threads. The optimiser's slots are part of the federated state
(`fednet.federated.state.SERVER_PREFIX`); slots that are missing, as before the first round or after a change of
optimiser, are initialised. Contributions have been validated where they entered. Sources: Hsu et al. 2019 (arXiv
1909.06335); Reddi et al. 2021 (arXiv 2003.00295, algorithm 2).

Integers and bools (counters) and running statistics (`fednet.federated.state.is_statistic`) have no gradient and are
replaced by the aggregate. Real and imaginary parts of complex numbers are separate coordinates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fednet.api import ModelState
from fednet.errors import ModelError
from fednet.federated.blocks import Formula, compute, coordinates
from fednet.federated.config import (
    Adagrad,
    Adam,
    Federation,
    Momentum,
    Replace,
    ServerConfig,
    Yogi,
)
from fednet.federated.state import (
    detached_copy,
    is_statistic,
    model_tensors,
    optimiser_slots,
    require_finite,
    require_like,
    with_slots,
)
from fednet.federated.update_rules import reduce


def aggregate(
    federation: Federation, base: ModelState, states: Mapping[str, ModelState], weights: Mapping[str, float]
) -> dict[str, Tensor]:
    """The model after a round: `server_step(server, base, reduce(rule, contributions))`.

    Args:
        federation: the rule and the server's optimiser.
        base: the model after the last round, with the server optimiser's slots if there are any.
        states: as for `reduce`.
        weights: as for `reduce`.

    Raises:
        MethodError: see `reduce` and `server_step`.
    """
    return server_step(federation.server, base, reduce(federation.rule, states, weights))


def server_step(config: ServerConfig, base: ModelState, aggregate: ModelState) -> dict[str, Tensor]:
    """The model after a round, with the optimiser's slots.

    Args:
        config: the optimiser.
        base: the model after the last round, with slots if there are any.
        aggregate: the combined contributions, without slots; names, shapes and dtypes as in the base.

    Returns:
        A new state that shares no memory with the arguments.

    Raises:
        ModelError: aggregate and base differ in structure, slots in the base are of another model, or the step
            overflows a dtype.
    """
    model = model_tensors(base)
    require_like(aggregate, model, "the aggregate")
    if isinstance(config, Replace):
        return detached_copy(aggregate)
    formula, starts = _momentum(config) if isinstance(config, Momentum) else _adaptive(config)
    slots, new_slots, after = optimiser_slots(base), dict[str, Tensor](), dict[str, Tensor]()
    for name, tensor in model.items():
        if is_statistic(name) or not (tensor.is_floating_point() or tensor.is_complex()):
            after[name] = aggregate[name].detach().clone()
            continue
        current = [_slot(slots, f"{slot}/{name}", start, tensor) for slot, start in starts.items()]
        after[name], *updated = compute(formula, [tensor, aggregate[name], *current], [tensor, *current])
        new_slots.update({f"{slot}/{name}": value for slot, value in zip(starts, updated, strict=True)})
    whole = with_slots(after, new_slots)
    require_finite(whole, "the server's step")
    return whole


def _momentum(config: Momentum) -> tuple[Formula, dict[str, float]]:
    """Momentum: v <- beta v + change; w <- w + rate v (Hsu et al. 2019, section 3, sign of the change reversed)."""

    def step(blocks: Sequence[Tensor]) -> Sequence[Tensor]:
        weight, aggregate, velocity = blocks
        velocity.mul_(config.beta).add_(aggregate.sub_(weight))
        return weight.add_(velocity * config.rate), velocity

    return step, {"velocity": 0.0}


def _adaptive(config: Adam | Yogi | Adagrad) -> tuple[Formula, dict[str, float]]:
    """Adam, Yogi and Adagrad: m <- b1 m + (1 - b1) change; v <- see `_squared`; w <- w + rate m / (sqrt v + tau).

    Reddi et al. 2021, algorithm 2. v starts at tau^2, the least that the paper allows, and m at 0.
    """

    def step(blocks: Sequence[Tensor]) -> Sequence[Tensor]:
        weight, aggregate, mean, square = blocks
        change = aggregate.sub_(weight)
        mean.mul_(config.beta1).add_(change * (1 - config.beta1))
        square = _squared(config, square, change.mul_(change))
        return weight.add_((mean * config.rate).div_(square.sqrt().add_(config.tau))), mean, square

    return step, {f"{config.kind}-mean": 0.0, f"{config.kind}-square": config.tau**2}


def _squared(config: Adam | Yogi | Adagrad, square: Tensor, latest: Tensor) -> Tensor:
    """The second moment v after a change whose square is `latest`; overwrites both.

    Adagrad: v + latest. Adam: b2 v + (1 - b2) latest. Yogi: v - (1 - b2) latest sign(v - latest), which stays above 0,
    since what is taken from v is less than v.
    """
    if isinstance(config, Adagrad):
        return square.add_(latest)
    if isinstance(config, Adam):
        return square.mul_(config.beta2).add_(latest.mul_(1 - config.beta2))
    direction = (latest - square).sign_()
    return square.add_(latest.mul_(1 - config.beta2).mul_(direction))


def _slot(slots: ModelState, name: str, start: float, tensor: Tensor) -> Tensor:
    """The slot of a tensor: 1-D, over its real coordinates, in at least single precision."""
    values = coordinates(tensor)
    wide = torch.float64 if values.dtype == torch.float64 else torch.float32
    fresh = torch.full(values.shape, start, dtype=wide)
    current = slots.get(name, fresh)
    if current.shape != fresh.shape or current.dtype != fresh.dtype:
        raise ModelError(
            f"the server's slot {name!r} is {current.dtype}{list(current.shape)}, expected {fresh.dtype}"
            f"{list(fresh.shape)}: it belongs to another model; replace the model"
        )
    return current
