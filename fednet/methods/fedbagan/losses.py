"""The losses, the games and the optimisers that can be chosen, by their names in a configuration.

NLL on the log of a softmax and the cross entropy of logits (CEL) are one formula; a test asserts it. They are two
settings because the source reports them as two. A discriminator tells apart the pictures' classes and one more,
"drawn". There are two games:

    softmax       BAGAN's: real pictures are of their class, drawn ones of the class "drawn", and the generator wants
                  them to be taken for their class (Mariani et al. 2018, section 3.3; Odena 2016, arXiv 1606.01583)
    relativistic  of a real and a drawn picture of one class the discriminator says which is real, and the generator
                  wants it to be wrong (Jolicoeur-Martineau 2019, arXiv 1807.00734; Huang et al. 2024, arXiv 2501.05441)

In the first the generator gains by drawing what is most typical of a class, and loses the rest of it; in the second it
gains only by drawing what real pictures of the class are like. Both are NLL or CEL of some logits. A plain GAN knows no
classes of what it draws: to it a picture is real that is taken for any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax, nll_loss

LossName = Literal["nll", "cel"]
GameName = Literal["relativistic", "softmax"]
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


def realness(logits: Tensor, labels: Tensor | None) -> Tensor:
    """How much rather than drawn (the last class) pictures are taken for their class, or for any: (n,), 0 is undecided.

    Args:
        logits: of a discriminator, (n, classes + 1).
        labels: int64 (n,); None for any class.
    """
    real = torch.logsumexp(logits[:, :-1], 1) if labels is None else logits.gather(1, labels[:, None])[:, 0]
    return real - logits[:, -1]


def pairwise_loss(loss: Loss, this: Tensor, that: Tensor) -> Tensor:
    """The loss of choosing the first of two, of which each is this much worth, (n,)."""
    return loss(torch.stack([this, that], 1), torch.zeros(len(this), dtype=torch.int64, device=this.device))


def discriminator_loss(
    game: GameName, loss: Loss, real: Tensor, drawn: Tensor, labels: Tensor, *, plain: bool
) -> Tensor:
    """The discriminator's loss, a scalar.

    Args:
        game: see the module.
        loss: NLL or CEL.
        real: logits (n, classes + 1) of real pictures.
        drawn: of drawn ones, (n, classes + 1), of the same classes one by one unless `plain`.
        labels: int64 (n,), the real pictures' classes.
        plain: whether the drawn ones are of no class in particular.
    """
    if game == "softmax":
        return loss(real, labels) + loss(drawn, torch.full_like(labels, real.shape[1] - 1))
    of = None if plain else labels
    return pairwise_loss(loss, realness(real, of), realness(drawn, of))


def generator_loss(game: GameName, loss: Loss, drawn: Tensor, real: Tensor, labels: Tensor | None) -> Tensor:
    """The generator's loss, a scalar; arguments as for `discriminating`, no labels where it is plain."""
    if game == "relativistic":
        return pairwise_loss(loss, realness(drawn, labels), realness(real, labels))
    if labels is None:
        return pairwise_loss(loss, realness(drawn, None), torch.zeros(len(drawn), device=drawn.device))
    return loss(drawn, labels)


def make_optimiser(name: OptimiserName, parameters: Iterator[nn.Parameter], rate: float) -> torch.optim.Optimizer:
    """A fresh optimiser, which remembers nothing of earlier rounds."""
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=rate, momentum=MOMENTUM)
    return torch.optim.Adam(parameters, lr=rate, betas=(MOMENTUM, BETA2), fused=True)
