"""Contributions that are late by whole rounds: what was learnt from an old model is carried over to the present one.

FedBuff (Nguyen et al. 2022, arXiv 2106.06639): nobody waits for the slow. A round closes once enough updates are in;
an update that began from an older model counts as the change that it made to that model, with a weight that falls
with its staleness s, the number of rounds that have closed since: (1 + s)^-exponent (their section 5 takes 1/2).
Knows no time: what is stale is counted in rounds.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from fednet.api import ModelState, Update
from fednet.federated.blocks import compute


def rebased_update(update: Update, began: ModelState, base: ModelState, staleness: int, exponent: float) -> Update:
    """An update as a contribution to a later round.

    Args:
        update: what a participant made of the model that it began from.
        began: that model.
        base: the model of the round that it contributes to, with the same names, shapes and dtypes.
        staleness: how many rounds have closed in between, >= 0; with 0 the update comes back as it is.
        exponent: how quickly old updates lose weight, >= 0.

    Returns:
        base + (update - began), with the weight times (1 + staleness)^-exponent, and the staleness among its values.
    """
    if staleness == 0:
        return update
    state = {name: _carried(update.state[name], began[name], tensor) for name, tensor in base.items()}
    weight = update.weight * (1 + staleness) ** -exponent
    return Update(state, weight, {**update.values, "staleness": float(staleness)})


def _carried(new: Tensor, old: Tensor, base: Tensor) -> Tensor:
    def add(blocks: Sequence[Tensor]) -> Sequence[Tensor]:
        return [blocks[0].sub_(blocks[1]).add_(blocks[2])]

    return compute(add, [new, old, base], [base])[0]
