"""The two losses and the two optimisers that the source compares, by their names in a configuration.

NLL on the log of a softmax and the cross entropy of logits (CEL) are one formula; a test asserts it. They are two
settings because the source reports them as two. A discriminator's classes are those of the pictures and one more,
"drawn"; the generator wants a picture to be taken for its class. Where pictures are drawn of no class in particular it
wants them not to be taken for drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax, nll_loss

LossName = Literal["nll", "cel"]
OptimiserName = Literal["adam", "sgd"]

MOMENTUM = 0.5
"""Of SGD, as in the source, and the first beta of Adam (Radford et al. 2016, arXiv 1511.06434)."""
BETA2 = 0.999

Loss = Callable[[Tensor, Tensor], Tensor]
"""Logits (n, k) and labels int64 (n,) -> their mean loss, a scalar."""


def nll(logits: Tensor, labels: Tensor) -> Tensor:
    """The negative log-likelihood of the labels under the softmax of the logits."""
    return nll_loss(log_softmax(logits, 1), labels)


LOSSES: Mapping[LossName, Loss] = {"nll": nll, "cel": cross_entropy}


def not_drawn(logits: Tensor) -> Tensor:
    """The mean of -log(1 - p(drawn)), where "drawn" is the last class: a scalar."""
    return (torch.logsumexp(logits, 1) - torch.logsumexp(logits[:, :-1], 1)).mean()


def optimiser(name: OptimiserName, parameters: Iterator[nn.Parameter], rate: float) -> torch.optim.Optimizer:
    """A fresh optimiser, which remembers nothing of earlier rounds."""
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=rate, momentum=MOMENTUM)
    return torch.optim.Adam(parameters, lr=rate, betas=(MOMENTUM, BETA2), fused=True)
