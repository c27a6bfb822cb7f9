"""The method `novelty`: federated classifier with a diffusion detector of novelty.

Registered as an entry point of the group `fednet.methods`. Imports no torch: the site and the job are imported by
the process that runs them.
"""

from __future__ import annotations

from fednet.methods.contract import Method
from fednet.methods.novelty.commands import COMMANDS
from fednet.methods.novelty.config import NoveltyConfig, check
from fednet.methods.novelty.disclosures import DISCLOSURES
from fednet.plugins import lazily

METHOD = Method(
    name="novelty",
    summary="federated classifier with a diffusion detector of novelty",
    config=NoveltyConfig,
    site=lazily("fednet.methods.novelty.site:NoveltySite.from_overrides"),
    job=lazily("fednet.methods.novelty.job:run_job"),
    announcer=lazily("fednet.methods.novelty.announcer:NoveltyAnnouncer.from_overrides"),
    check=check,
    agree=lazily("fednet.methods.novelty.announcer:agree"),
    commands=COMMANDS,
    preload=(
        "fednet.methods.novelty.job",
        "fednet.methods.novelty.site",
        "diffusers.models.unets.unet_2d",
        "torchdiffeq",
        "torchvision.utils",
        "sklearn.datasets",
    ),
    extra="fednet[diffusion]",
    requires=("diffusers", "matplotlib", "sklearn", "tensorboard", "torchdiffeq", "torchvision"),
    disclosures=DISCLOSURES,
)
