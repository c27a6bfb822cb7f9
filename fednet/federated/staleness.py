"""Stale updates in asynchronous rounds: rebased on the current model and weighted by staleness.

FedBuff (Nguyen et al. 2022, arXiv 2106.06639): a round closes once enough updates are in. An update of an older model
counts as its change to that model, with a weight that falls with its staleness s, the number of rounds that have closed
since: (1 + s)^-exponent (their section 5 uses 1/2). Running statistics are no weights: they count as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from fednet.api import ModelState, Update
from fednet.federated.blocks import compute
from fednet.federated.state import is_statistic


def rebased_update(update: Update, began: ModelState, base: ModelState, staleness: int, exponent: float) -> Update:
    """An update of an older model as a contribution to the current round.

    Args:
        update: the update.
        began: the model that it began from.
        base: the current round's base model, with the same names, shapes and dtypes.
        staleness: number of rounds that have closed in between, >= 0; with 0 the update is returned unchanged.
        exponent: how fast the weight falls, >= 0.

    Returns:
        base + (update - began), and the update's own running statistics, with the weight times
        (1 + staleness)^-exponent, and the staleness among its values.
    """
    if staleness == 0:
        return update
    state = {
        name: update.state[name] if is_statistic(name) else _rebased(update.state[name], began[name], tensor)
        for name, tensor in base.items()
    }
    weight = update.weight * (1 + staleness) ** -exponent
    return Update(state, weight, {**update.values, "staleness": float(staleness)})


def _rebased(new: Tensor, old: Tensor, base: Tensor) -> Tensor:
    def add(blocks: Sequence[Tensor]) -> Sequence[Tensor]:
        return [blocks[0].sub_(blocks[1]).add_(blocks[2])]

    return compute(add, [new, old, base], [base])[0]
