"""FedProx: a penalty on the distance to the round's base model (Li et al. 2020, arXiv 1812.06127, eq. 2)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fednet.api import ModelState
from fednet.errors import ModelError
from fednet.federated.blocks import squared_distance


def proximal_term(parameters: Mapping[str, Tensor], anchor: ModelState, mu: float) -> Tensor:
    """The proximal term, mu / 2 * sum over all parameters of ||w - w_g||^2.

    With mu = 0 it is a constant zero: gradients, and so the training, are bit for bit those of FedAvg.

    Args:
        parameters: trainable parameters by name.
        anchor: the round's base model; has at least these names, in the same shapes.
        mu: >= 0.

    Returns:
        A scalar of the parameters' dtype on their device, to be added to the loss.

    Raises:
        ModelError: the anchor lacks a parameter, or has it in another shape.
        ValueError: mu < 0 or NaN.
    """
    if not mu >= 0:
        raise ValueError(f"mu = {mu}: expected a number >= 0")
    for name, tensor in parameters.items():
        if name not in anchor or anchor[name].shape != tensor.shape:
            raise ModelError(f"the anchor of FedProx has no parameter {name!r} of shape {list(tensor.shape)}")
    if mu == 0 or not parameters:
        return torch.zeros((), device=next((tensor.device for tensor in parameters.values()), None))
    distances = [(tensor - anchor[name].detach().to(tensor)).square().sum() for name, tensor in parameters.items()]
    return mu / 2 * torch.stack(distances).sum()


def drift(state: ModelState, anchor: ModelState) -> float:
    """||w - w_g||^2 over all float and complex tensors of a state, in float64: the client drift.

    Raises:
        ModelError: the anchor lacks a tensor, or has it in another shape.
    """
    names = sorted(name for name, tensor in state.items() if tensor.is_floating_point() or tensor.is_complex())
    for name in names:
        if name not in anchor or anchor[name].shape != state[name].shape:
            raise ModelError(f"the anchor of the drift has no tensor {name!r} of shape {list(state[name].shape)}")
    return squared_distance([state[name] for name in names], [anchor[name] for name in names])
