"""The method `fedbagan`: federated class-balancing GAN.

Registered as an entry point of the group `fednet.methods`. Imports no torch: the site and the job are imported by
the process that runs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fednet.methods.contract import Drawer, Method
from fednet.methods.fedbagan.config import FedBaganConfig, check
from fednet.methods.fedbagan.disclosures import DISCLOSURES
from fednet.methods.sample_request import SampleRequest
from fednet.plugins import lazily

if TYPE_CHECKING:
    from fednet.api import Network, Progress, Responder, SiteContext
    from fednet.reporting.samples import SampleBatch


def site(config: FedBaganConfig, context: SiteContext, overrides: Mapping[str, Any]) -> Responder:
    """Makes the side that holds data and a model."""
    from fednet.methods.fedbagan.site import FedBaganSite  # noqa: PLC0415 - imports torch

    return FedBaganSite.from_overrides(config, context, overrides)


def job(config: FedBaganConfig, network: Network, folder: Path, seed: int, progress: Progress) -> None:
    """Does the driver's work."""
    from fednet.methods.fedbagan.job import run_job  # noqa: PLC0415 - imports torch

    run_job(config, network, folder, seed, progress)


def draw(network: Network, request: SampleRequest, progress: Progress) -> SampleBatch:
    """Draws samples from a live cluster."""
    from fednet.methods.fedbagan.sampling import sample  # noqa: PLC0415 - imports torch

    return sample(network, request, progress)


def draw_from_checkpoint(path: Path, request: SampleRequest) -> SampleBatch:
    """Draws samples from a checkpoint's generator."""
    from fednet.methods.fedbagan.sampling import sample_from  # noqa: PLC0415 - imports torch

    return sample_from(path, request)


METHOD = Method(
    name="fedbagan",
    summary="federated class-balancing GAN",
    config=FedBaganConfig,
    site=site,
    job=job,
    announcer=lazily("fednet.methods.fedbagan.announcer:FedBaganAnnouncer.from_overrides"),
    check=check,
    agree=lazily("fednet.methods.common.measuring_data:require_measurable"),
    drawer=Drawer(SampleRequest, draw, draw_from_checkpoint),
    preload=("fednet.methods.fedbagan.job", "fednet.methods.fedbagan.site", "torchvision.utils", "sklearn.datasets"),
    extra="fednet[images]",
    requires=("matplotlib", "sklearn", "tensorboard", "torchvision"),
    disclosures=DISCLOSURES,
)
