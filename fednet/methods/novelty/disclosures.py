"""What leaves a site of novelty, see `fednet.methods.common.disclosure`. Imports no torch."""

from __future__ import annotations

from fednet.methods.common.disclosure import Disclosure

DISCLOSURES = (
    Disclosure(
        "capabilities", "histogram, held_out, parts, classes, shape", "counts", "the numbers of pictures of each class"
    ),
    Disclosure(
        "round", "train", "model", "classifier or detector, trained on some classes; behind a secure sum the mean"
    ),
    Disclosure("round", "average", "model", "the site's copy of classifier or detector"),
    Disclosure("round", "weight", "counts", "the number of pictures that were trained on"),
    Disclosure("round", "losses", "model", "mean training losses of the round"),
    Disclosure("question", "status", "model", "digests of all models, and the thresholds that `calibrate` has set"),
    Disclosure(
        "question", "train", "model", "the loss of a training of the site's copy on chosen classes, and its digest"
    ),
    Disclosure("question", "layout", "none", "names, dtypes and shapes of a model's tensors"),
    Disclosure("question", "model", "model", "the site's copy of classifier or detector; never its own detector"),
    Disclosure("question", "validate", "model", "how many of the asker's pictures the classifier gets right, by class"),
    Disclosure(
        "question",
        "validate-held-out",
        "private",
        "how many of its held-out pictures the classifier gets right, by class",
        permission="disclose.evaluate",
    ),
    Disclosure(
        "question",
        "calibrate",
        "private",
        "a threshold: a quantile of its held-out pictures' scores",
        permission="disclose.calibrate",
    ),
    Disclosure(
        "question",
        "held-out-scores",
        "private",
        "the score of every held-out picture of chosen classes",
        permission="disclose.calibrate",
    ),
    Disclosure("question", "set-threshold", "none", "the threshold that the asker has given"),
    Disclosure("question", "classify", "model", "logits of the asker's pictures"),
    Disclosure("question", "uncertainty", "model", "logits and their spread over passes with dropout"),
    Disclosure("question", "score", "model", "scores of the asker's pictures, their reconstructions, the threshold"),
)
