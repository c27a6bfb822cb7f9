"""What leaves a site of external-training, see `fednet.methods.common.disclosure`. Imports no torch."""

from __future__ import annotations

from fednet.methods.common.disclosure import Disclosure

DISCLOSURES = (
    Disclosure("capabilities", "finished", "none", "whether the site has the last model"),
    Disclosure(
        "round", "train", "model", "the module as the loop has made it; with `privacy` its change, clipped and noisy"
    ),
    Disclosure("round", "weight", "counts", "what the loop says, usually the number of examples; 1 with `privacy`"),
    Disclosure("round", "values", "model", "what the loop has measured; with `privacy` the epsilons instead"),
)
