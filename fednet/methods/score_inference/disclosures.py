"""What leaves a site of score-inference, see `fednet.methods.common.disclosure`. Imports no torch."""

from __future__ import annotations

from fednet.methods.common.disclosure import Disclosure

DISCLOSURES = (
    Disclosure(
        "capabilities", "histogram, pictures, parts, classes, shape", "counts", "the numbers of pictures of each class"
    ),
    Disclosure(
        "capabilities", "sde, conditional, expert, steps, seconds", "none", "what the model is, and how it was trained"
    ),
    Disclosure("capabilities", "loss", "model", "the mean training loss at the end"),
    Disclosure("question", "score", "model", "the score at points that the asker chooses, and its divergence"),
)
