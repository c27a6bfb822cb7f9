"""Class imbalance: subsamples classes of the training set before it is partitioned.

The whole federation then has few examples of a rare class, as in the experiments of BAGAN (Mariani et al. 2018).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fednet.errors import DataError
from fednet.seeds import generator


def keep(labels: Tensor, imbalance: Mapping[int, float], seed: int) -> Tensor:
    """Draws the examples to keep.

    Of m pictures of a class round(fraction * m) stay, at least one. The draw of a class does not depend on the
    other classes, and what stays under a smaller fraction also stays under a larger one.

    Args:
        labels: int64 (n,), classes from 0 on.
        imbalance: the fraction that stays, in (0, 1], by class; a class that is not named stays whole.
        seed: the run's seed.

    Returns:
        Sorted positions in `labels`, int64 (m,).

    Raises:
        DataError: there are no pictures of a class that is named.
    """
    stays = torch.ones(len(labels), dtype=torch.bool)
    for label, fraction in sorted(imbalance.items()):
        members = (labels == label).nonzero().flatten()
        if len(members) == 0:
            raise DataError(
                f"partition.imbalance names class {label}, which has no examples; "
                f"expected classes 0 to {int(labels.max())}"
            )
        order = torch.randperm(len(members), generator=generator(seed, "imbalance", label))
        stays[members[order[max(1, round(fraction * len(members))) :]]] = False
    return stays.nonzero().flatten()
