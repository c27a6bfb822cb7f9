"""The losses, the games and the optimisers that can be chosen, by their names in a configuration.

NLL on the log of a softmax and the cross entropy of logits (CEL) are one formula; a test asserts it. They are two
settings because the source reports them as two. A discriminator has an output for every class and one more,
"generated". There are two games:

    softmax       BAGAN's: real pictures are of their class, generated ones of the class "generated", and the generator
                  wants them to be classified as their class (Mariani et al. 2018, section 3.3; Odena 2016, arXiv
                  1606.01583)
    relativistic  of a real and a generated picture of one class the discriminator decides which is real, and the
                  generator wants it to be wrong (Jolicoeur-Martineau 2019, arXiv 1807.00734; Huang et al. 2024, arXiv
                  2501.05441)

In the first the generator is rewarded for what is most typical of a class, and loses the rest of it; in the second
only for what real pictures of the class are like. Both are NLL or CEL of some logits. A plain GAN has no classes of
generated pictures: to it a picture is real that is classified as any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax, nll_loss

from fednet.methods.fedbagan.config import GameName, LossName, OptimiserName

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
    """The logit of a picture's class, or of any class, above that of "generated" (the last): (n,), 0 is undecided.

    Args:
        logits: of a discriminator, (n, classes + 1).
        labels: int64 (n,); None for any class.
    """
    real = torch.logsumexp(logits[:, :-1], 1) if labels is None else logits.gather(1, labels[:, None])[:, 0]
    return real - logits[:, -1]


def pairwise_loss(loss: Loss, first: Tensor, second: Tensor) -> Tensor:
    """The loss of choosing the first of two by their logits, each (n,)."""
    return loss(torch.stack([first, second], 1), torch.zeros(len(first), dtype=torch.int64, device=first.device))


def discriminator_loss(
    game: GameName, loss: Loss, real: Tensor, generated: Tensor, labels: Tensor, *, plain: bool
) -> Tensor:
    """The discriminator's loss, a scalar.

    Args:
        game: see the module.
        loss: NLL or CEL.
        real: logits (n, classes + 1) of real pictures.
        generated: of generated ones, (n, classes + 1), of the same classes one by one unless `plain`.
        labels: int64 (n,), the real pictures' classes.
        plain: whether the generated ones are of no class in particular.
    """
    if game == "softmax":
        return loss(real, labels) + loss(generated, torch.full_like(labels, real.shape[1] - 1))
    of = None if plain else labels
    return pairwise_loss(loss, realness(real, of), realness(generated, of))


def generator_loss(game: GameName, loss: Loss, generated: Tensor, real: Tensor, labels: Tensor | None) -> Tensor:
    """The generator's loss, a scalar; arguments as for `discriminator_loss`, no labels where it is plain."""
    if game == "relativistic":
        return pairwise_loss(loss, realness(generated, labels), realness(real, labels))
    if labels is None:
        return pairwise_loss(loss, realness(generated, None), torch.zeros(len(generated), device=generated.device))
    return loss(generated, labels)


def make_optimiser(name: OptimiserName, parameters: Iterator[nn.Parameter], rate: float) -> torch.optim.Optimizer:
    """A new optimiser, without moments of earlier rounds."""
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=rate, momentum=MOMENTUM)
    return torch.optim.Adam(parameters, lr=rate, betas=(MOMENTUM, BETA2), fused=True)
