"""The method `private-gan`: private GAN training with DP-SGD and secure aggregation.

Registered as an entry point of the group `fednet.methods`. Imports no torch: the site and the job are imported by
the process that runs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fednet.methods.contract import Method
from fednet.methods.private_gan.config import PrivateGanConfig
from fednet.methods.private_gan.disclosures import DISCLOSURES
from fednet.plugins import lazily

if TYPE_CHECKING:
    from fednet.api import Network, Progress, Responder, SiteContext


def site(config: PrivateGanConfig, context: SiteContext, overrides: Mapping[str, Any]) -> Responder:
    """Makes the side that holds data and a model."""
    from fednet.methods.private_gan.site import PrivateGanSite  # noqa: PLC0415 - imports torch

    return PrivateGanSite.from_overrides(config, context, overrides)


def job(config: PrivateGanConfig, network: Network, folder: Path, seed: int, progress: Progress) -> None:
    """Does the driver's work."""
    from fednet.methods.private_gan.job import run_job  # noqa: PLC0415 - imports torch

    run_job(config, network, folder, seed, progress)


def check(config: PrivateGanConfig, overrides: Mapping[str, Any]) -> None:
    """Refuses missing data and a budget that buys nothing."""
    from fednet.methods.private_gan import mechanism  # noqa: PLC0415 - Opacus takes seconds to import

    mechanism.check(config, overrides)


METHOD = Method(
    name="private-gan",
    summary="private GAN training with DP-SGD and secure aggregation",
    config=PrivateGanConfig,
    site=site,
    job=job,
    announcer=lazily("fednet.methods.private_gan.announcer:PrivateGanAnnouncer.from_overrides"),
    check=check,
    agree=lazily("fednet.methods.common.measuring_data:require_measurable"),
    preload=(
        "fednet.methods.private_gan.job",
        "fednet.methods.private_gan.site",
        "torchvision.utils",
        "sklearn.datasets",
    ),
    extra="fednet[privacy]",
    requires=("matplotlib", "opacus", "scipy", "sklearn", "tensorboard", "torchvision"),
    disclosures=DISCLOSURES,
)
