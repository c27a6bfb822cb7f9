"""The method `novelty`: federated classifier with a diffusion detector of novelty.

Registered as an entry point of the group `fednet.methods`. Imports no torch: the site and the job are imported by
the process that runs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fednet.methods.common.agreement import read_announcements
from fednet.methods.contract import Method
from fednet.methods.novelty.commands import COMMANDS
from fednet.methods.novelty.config import NoveltyConfig, check
from fednet.methods.novelty.disclosures import DISCLOSURES

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
    """Refuses a flow with classes that a site does not have, and what cannot be measured with."""
    from fednet.methods.common.measures import require_measurable  # noqa: PLC0415 - imports torch
    from fednet.methods.novelty.labels import require_flow  # noqa: PLC0415 - imports torch

    classes = require_measurable(config, announcements)
    announced = {name: one.classes if one.own else classes for name, one in read_announcements(announcements).items()}
    there = {name: [classes.index(one) for one in own] for name, own in announced.items()}
    require_flow(config.flow.labels(classes), there, detectors=config.flow.detector_rounds > 0)


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
    disclosures=DISCLOSURES,
)
