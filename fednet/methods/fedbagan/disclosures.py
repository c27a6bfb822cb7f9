"""What leaves a site of fedbagan, see `fednet.methods.common.disclosure`. Imports no torch."""

from __future__ import annotations

from fednet.methods.common.disclosure import Disclosure
from fednet.methods.fedbagan.messages import DRAW, INITIALISE, SUM, TRAIN

DISCLOSURES = (
    Disclosure("capabilities", "pictures, parts, classes, shape, latent", "counts", "numbers of pictures, in all"),
    Disclosure("round", TRAIN, "model", "the trained networks; behind a secure sum only their mean"),
    Disclosure(
        "round", SUM, "model", "sums and squares of the latent vectors of each class, which tell its numbers, too"
    ),
    Disclosure(
        "round", INITIALISE, "released", "the GAN's first weights, from the autoencoder that rounds have released"
    ),
    Disclosure("round", "weight", "counts", "the number of pictures"),
    Disclosure("round", "losses", "model", "mean training losses of the round"),
    Disclosure("question", DRAW, "released", "pictures of the generator that a round has released"),
    Disclosure("question", "model", "released", "a model that a round has released"),
)
