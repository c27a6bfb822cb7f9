"""The centralised baseline: one site with all pictures learns all words from them and tunes with them.

Its process reads every site's share of the run's data, so it is for experiments, and no site takes part in it.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from fednet.api import Progress, SiteContext
from fednet.data.datasets import ImageSet
from fednet.methods.cmtii.backend_selection import load_backend
from fednet.methods.cmtii.config import CmtiiConfig
from fednet.methods.cmtii.inversion import classes_to_learn, invert_words
from fednet.methods.cmtii.lexicon import class_text_features
from fednet.methods.cmtii.site_data import CmtiiDataSplit
from fednet.methods.cmtii.tuning import WeightedImages, count_correct, tune_adapter, with_adapter
from fednet.seeds import derive, generator

CENTRAL_SITE = "central"


def centralised_counts(
    config: CmtiiConfig, test: ImageSet, *, sites: int, folder: Path, seed: int, progress: Progress
) -> Tensor:
    """How many test pictures of each class are classified correctly: int64 (classes, 2), right and all.

    Raises:
        MethodError: the data or the models are not there, or a training diverges.
        Stopped: `progress` asks for the end.
    """
    split = CmtiiDataSplit(config.data, config.public, config.held_out_of_run)
    everything = split.pooled(config.partition, sites, seed)
    backend = load_backend(config, SiteContext(CENTRAL_SITE, 0, 1, seed, "cpu", folder), split, progress)
    tokens = [backend.clip.tokens(name) for name in everything.classes]
    every = config.learn.model_copy(update={"classes": None})
    words, _ = invert_words(
        backend,
        everything,
        tokens,
        classes_to_learn(everything, every, 1),
        every,
        random=generator(seed, "learn", CENTRAL_SITE),
        progress=progress,
    )
    texts = class_text_features(backend.clip, [[words.get(label, token)] for label, token in enumerate(tokens)])
    mixture = WeightedImages(everything.images, everything.labels, torch.ones(len(everything)))
    state, _ = tune_adapter(
        backend.clip,
        texts,
        mixture,
        config.tune,
        seed=derive(seed, "adapter", CENTRAL_SITE),
        random=generator(seed, "tune", CENTRAL_SITE),
        progress=progress,
    )
    with with_adapter(backend.clip, config.tune, state):
        return count_correct(backend.clip, texts, test.images, test.labels)
