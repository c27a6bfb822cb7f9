"""What leaves a site of regression, see `fednet.methods.common.disclosure`. Imports no torch."""

from __future__ import annotations

from fednet.methods.common.disclosure import Disclosure

DISCLOSURES = (
    Disclosure("capabilities", "points, from, to", "counts", "the number of points, and between which x they lie"),
    Disclosure("round", "train", "model", "the trained line"),
    Disclosure("round", "weight", "counts", "the number of points"),
    Disclosure("round", "loss", "model", "the loss after the round's steps"),
    Disclosure("question", "predict", "model", "y of the asker's x, by the line of the rounds or by one trained alone"),
)
