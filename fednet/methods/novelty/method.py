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


def agree(config: NoveltyConfig, announcements: Mapping[str, str]) -> None:
    """Refuses a flow with classes that no site has, and what could not be measured."""
    from fednet.methods.common.measures import require_measurable  # noqa: PLC0415 - imports torch

    config.flow.labels(require_measurable(config, announcements, "the method novelty"))


METHOD = Method(
    name="novelty",
    summary="federated classifier with a diffusion detector of novelty",
    config=NoveltyConfig,
    site=site,
    job=job,
    check=check,
    agree=agree,
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
)
