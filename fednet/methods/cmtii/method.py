"""The method `cmtii`: interchange of pseudo-word embeddings.

Registered as an entry point of the group `fednet.methods`. Imports no torch: the site and the job are imported by
the process that runs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fednet.methods.cmtii.config import CmtiiConfig, check
from fednet.methods.cmtii.disclosures import DISCLOSURES
from fednet.methods.contract import Method
from fednet.plugins import lazily

if TYPE_CHECKING:
    from fednet.api import Network, Progress, Responder, SiteContext


def site(config: CmtiiConfig, context: SiteContext, overrides: Mapping[str, Any]) -> Responder:
    """Makes the side that holds data and a model."""
    from fednet.methods.cmtii.site import CmtiiSite  # noqa: PLC0415 - imports torch

    return CmtiiSite.from_overrides(config, context, overrides)


def job(config: CmtiiConfig, network: Network, folder: Path, seed: int, progress: Progress) -> None:
    """Does the driver's work."""
    from fednet.methods.cmtii.job import run_job  # noqa: PLC0415 - imports torch

    run_job(config, network, folder, seed, progress)


METHOD = Method(
    name="cmtii",
    summary="interchange of pseudo-word embeddings",
    config=CmtiiConfig,
    site=site,
    job=job,
    announcer=lazily("fednet.methods.cmtii.announcer:CmtiiAnnouncer.from_overrides"),
    check=check,
    agree=lazily("fednet.methods.common.measuring_data:require_measurable"),
    preload=(
        "fednet.methods.cmtii.job",
        "fednet.methods.cmtii.site",
        "diffusers.models.unets.unet_2d",
        "torchvision.utils",
        "sklearn.datasets",
    ),
    extra="fednet[cmtii]",
    requires=("diffusers", "matplotlib", "open_clip", "peft", "sklearn", "tensorboard", "torchvision", "transformers"),
    disclosures=DISCLOSURES,
)
