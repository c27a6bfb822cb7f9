"""The built-in rules, as values; where their functions are imported from, torch is."""

from __future__ import annotations

from typing import Final

from fednet.federated.config import Krum, Mean, Median, TrimmedMean
from fednet.methods.score_inference.rule_settings import GeometricMean, Tempered, Weighted
from fednet.plugins import lazily
from fednet.rules.contract import Rule, ScoreRule, UpdateRule

_SCORES: Final = "fednet.methods.score_inference.rules"
_PRODUCT: Final = lazily("fednet.methods.score_inference.products:product")
_UPDATES: Final = "fednet.federated.update_rules"

MEAN = Rule(
    "mean",
    "equal weights for scores, the contributors' weights for updates (FedAvg, McMahan et al. 2017)",
    scores=ScoreRule(lazily(f"{_SCORES}:mean"), Weighted),
    updates=UpdateRule(lazily(f"{_UPDATES}:mean"), Mean),
)
MEDIAN = Rule(
    "median",
    "the median of each coordinate, robust to a faulty minority (Yin et al. 2018)",
    scores=ScoreRule(lazily(f"{_SCORES}:median")),
    updates=UpdateRule(lazily(f"{_UPDATES}:median"), Median),
)
DATA_SIZE = Rule("data-size", "by number of images", scores=ScoreRule(lazily(f"{_SCORES}:data_size"), Weighted))
LABEL_COUNT = Rule(
    "label-count",
    "by number of images of the requested label",
    scores=ScoreRule(lazily(f"{_SCORES}:label_count"), Weighted, needs_labels=True),
)
MIXTURE = Rule(
    "mixture",
    "the union of the sites' data (OR, Skreta et al. 2024)",
    scores=ScoreRule(lazily(f"{_SCORES}:mixture"), Weighted),
)
CONSENSUS = Rule(
    "consensus",
    "what all sites find equally likely (Skreta et al. 2024)",
    scores=ScoreRule(lazily(f"{_SCORES}:consensus")),
)
PRODUCT = Rule(
    "product",
    "the product of the sites' densities, AND (Feynman-Kac correctors, Skreta et al. 2025)",
    scores=ScoreRule(_PRODUCT, Tempered, resamples=True),
)
GEOMETRIC_MEAN = Rule(
    "geometric-mean",
    "the geometric mean of the sites' densities, to a power (annealing; Skreta et al. 2025)",
    scores=ScoreRule(_PRODUCT, GeometricMean, resamples=True),
)
TRIMMED_MEAN = Rule(
    "trimmed-mean",
    "the mean of each coordinate without the extremes (Yin et al. 2018)",
    updates=UpdateRule(lazily(f"{_UPDATES}:trimmed_mean"), TrimmedMean),
)
KRUM = Rule(
    "krum",
    "the contributions that are closest to their neighbours (Blanchard et al. 2017)",
    updates=UpdateRule(
        lazily(f"{_UPDATES}:krum"),
        Krum,
        compares=True,
        least=lambda krum: max(2 * krum.byzantine + 3, krum.byzantine + 2 + krum.keep),
    ),
)
