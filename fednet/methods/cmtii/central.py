"""The bound: one site that has the pictures of all, learns all words from them and tunes with them, painting nothing.

Whoever computes it reads every site's share of the run's data, so it is for experiments, and no site takes part in it.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from fednet.api import Progress, SiteContext
from fednet.data.datasets import ImageSet
from fednet.methods.cmtii.config import CmtiiConfig
from fednet.methods.cmtii.inversion import learn, learnable
from fednet.methods.cmtii.lexicon import merged
from fednet.methods.cmtii.models import models_of
from fednet.methods.cmtii.site_data import PublicAndSiteImages
from fednet.methods.cmtii.tuning import Mixture, adapted, tally, tune
from fednet.seeds import derive, generator

NAME = "central"


def central_tally(
    config: CmtiiConfig, test: ImageSet, *, sites: int, folder: Path, seed: int, progress: Progress
) -> Tensor:
    """How many test pictures of each class the bound takes for it: int64 (classes, 2), right and all.

    Raises:
        MethodError: the data or the models are not there, or a training diverges.
        Stopped: the watch asks for the end.
    """
    world = PublicAndSiteImages(config.data, config.public)
    everything = world.pooled(config.partition, sites, seed)
    backend = models_of(config, SiteContext(NAME, 0, 1, seed, "cpu", folder), world, progress)
    tokens = [backend.clip.tokens(name) for name in everything.classes]
    every = config.learn.model_copy(update={"classes": None})
    words, _ = learn(
        backend,
        everything,
        tokens,
        learnable(everything, every, 1),
        every,
        random=generator(seed, "learn", NAME),
        progress=progress,
    )
    texts = merged(backend.clip, [[words.get(label, token)] for label, token in enumerate(tokens)])
    mixture = Mixture(everything.images, everything.labels, torch.ones(len(everything)))
    state, _ = tune(
        backend.clip,
        texts,
        mixture,
        config.tune,
        seed=derive(seed, "adapter", NAME),
        random=generator(seed, "tune", NAME),
        progress=progress,
    )
    with adapted(backend.clip, config.tune, state):
        return tally(backend.clip, texts, test.images, test.labels)
