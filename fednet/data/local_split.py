"""Stratified split of one agent's examples into a local train and test part.

PFLlib (Zhang et al. 2025, `dataset/utils/dataset_utils.py`) uses a train ratio of .75 and a plain shuffle; here every
class is split in the same ratio.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fednet.data.sizes import train_size
from fednet.errors import DataError
from fednet.seeds import generator


def train_and_test(labels: Tensor, ratio: float, seed: int, agent: int | str) -> tuple[Tensor, Tensor]:
    """Cuts the pictures with these labels into a train and a test part.

    Of n pictures t = `train_size(n, ratio)` are trained on. A class of m pictures gives t * m / n of them, rounded down
    or up. Which classes are rounded up is drawn, so that no class is always tested and never trained.

    Args:
        labels: int64 (n,), n > 0, of one agent's pictures.
        ratio: the fraction to train on, in (0, 1]; 1 leaves nothing to test with.
        seed: the run's seed.
        agent: whose pictures they are; the split depends on seed and agent and nothing else.

    Returns:
        Sorted positions in `labels` of the train part and of the test part; together they are all, without overlap.

    Raises:
        DataError: there are no pictures.
    """
    count = len(labels)
    if count == 0:
        raise DataError(f"agent {agent} has no pictures that could be split into train and test")
    wanted = train_size(count, ratio)
    order, place = _classes_in_a_row(labels, seed, agent), torch.arange(count)
    # The places taken are evenly spread, so that m places in a row have floor or ceil of wanted * m / n of them.
    trained = (place + 1) * wanted // count > place * wanted // count
    return order[trained].sort().values, order[~trained].sort().values


def _classes_in_a_row(labels: Tensor, seed: int, agent: int | str) -> Tensor:
    """The positions class by class, the classes and the pictures of each in a drawn order."""
    chance = generator(seed, "local split", agent)
    rank = torch.randperm(int(labels.max()) + 1, generator=chance)
    shuffled = torch.randperm(len(labels), generator=chance)
    return shuffled[rank[labels[shuffled]].argsort(stable=True)]
