"""What leaves a site of cmtii, see `fednet.methods.common.disclosure`. Imports no torch."""

from __future__ import annotations

from fednet.methods.common.disclosure import Disclosure

DISCLOSURES = (
    Disclosure(
        "capabilities", "histogram, tests, parts, classes, shape", "counts", "the numbers of pictures of each class"
    ),
    Disclosure("capabilities", "models, parameters", "none", "which public models the site has"),
    Disclosure("exchange", "learn", "model", "a pseudo-word for each class, learnt from its pictures"),
    Disclosure(
        "exchange", "losses, numbers", "model", "training losses of words and encoder, counts of generated pictures"
    ),
    Disclosure("exchange", "tune", "none", "no offer: the encoder that is tuned on private pictures stays"),
    Disclosure("question", "evaluate", "model", "how many of the asker's pictures an arm gets right, by class"),
    Disclosure(
        "question",
        "evaluate-own",
        "private",
        "how many of its own test pictures an arm gets right, by class",
        permission="disclose.evaluate",
    ),
    Disclosure(
        "question", "evaluate-generated", "released", "measures, by the asker's judge, of pictures from received words"
    ),
    Disclosure(
        "question",
        "leakage",
        "private",
        "AUCs of attacks on its words, distances of generated pictures to private ones",
        permission="disclose.leakage",
    ),
)
