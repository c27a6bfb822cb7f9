"""The method `novelty`: federated classifier with a diffusion detector of novelty.

Registered as an entry point of the group `fednet.methods`. Imports no torch: the site and the job are imported by
the process that runs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fednet.methods.contract import Method
from fednet.methods.novelty.commands import COMMANDS
from fednet.methods.novelty.config import NoveltyConfig, check
from fednet.methods.novelty.disclosures import DISCLOSURES
from fednet.plugins import lazily

if TYPE_CHECKING:
    from fednet.api import Network, Progress, Responder, SiteContext


def site(config: NoveltyConfig, context: SiteContext, overrides: Mapping[str, Any]) -> Responder:
    """Makes the side that holds data and a model."""
    from fednet.methods.novelty.site import NoveltySite  # noqa: PLC0415 - imports torch

    return NoveltySite.from_overrides(config, context, overrides)


def job(config: NoveltyConfig, network: Network, folder: Path, seed: int, progress: Progress) -> None:
    """Does the driver's work."""
    from fednet.methods.novelty.job import run_job  # noqa: PLC0415 - imports torch

    run_job(config, network, folder, seed, progress)


METHOD = Method(
    name="novelty",
    summary="federated classifier with a diffusion detector of novelty",
    config=NoveltyConfig,
    site=site,
    job=job,
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
