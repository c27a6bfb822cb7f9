"""What leaves a site of private-gan, see `fednet.methods.common.disclosure`. Imports no torch."""

from __future__ import annotations

from fednet.methods.common.disclosure import Disclosure
from fednet.methods.private_gan.messages import AUDIT, DRAW, STATUS, TRAIN, VALIDATE

_LEDGER = "`privacy.epsilon` or `budget`, of the site's ledger; none under `level: none`"

DISCLOSURES = (
    Disclosure("capabilities", "pictures, parts, classes, shape, latent", "counts", "numbers of pictures, in all"),
    Disclosure(
        "capabilities", "privacy, disclosed", "none", "noise, budget and epsilon spent; what it answers without"
    ),
    Disclosure("round", TRAIN, "noisy", "the trained networks: DP-SGD's, or a clipped and noisy change", _LEDGER),
    Disclosure("round", "weight", "counts", "the number of pictures; 1 under `share.weight: equal`"),
    Disclosure(
        "round", "losses", "noisy", "losses on generated pictures, of noisy networks; none at client level", _LEDGER
    ),
    Disclosure(
        "round", "steps, pace, private, epsilons", "released", "what was reserved, and follows from contributions"
    ),
    Disclosure("question", STATUS, "released", "epsilon spent, rounds that the budget buys, digests of adopted models"),
    Disclosure("question", DRAW, "released", "pictures of the generator that a round has released"),
    Disclosure("question", VALIDATE, "released", "how many of the asker's pictures the classifier gets right"),
    Disclosure(
        "question",
        AUDIT,
        "private",
        "AUCs of membership attacks on the models; members, non-members and samples are the site's",
        permission="disclose.audit",
    ),
)
