"""The method `fedbagan`: federated class-balancing GAN.

Registered as an entry point of the group `fednet.methods`. Imports no torch: the site and the job are imported by
the process that runs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fednet.methods.contract import Method
from fednet.methods.fedbagan.config import FedBaganConfig, check

if TYPE_CHECKING:
    from fednet.api import Network, Progress, Responder, SiteContext


def site(config: FedBaganConfig, context: SiteContext, overrides: Mapping[str, Any]) -> Responder:
    """Makes the side that holds data and a model; see `fedbagan.job.make_site`."""
    from fednet.methods.fedbagan.job import make_site  # noqa: PLC0415 - imports torch

    return make_site(config, context, overrides)


def job(config: FedBaganConfig, network: Network, folder: Path, seed: int, progress: Progress) -> None:
    """Does the driver's work; see `fedbagan.job.run_job`."""
    from fednet.methods.fedbagan.job import run_job  # noqa: PLC0415 - imports torch

    run_job(config, network, folder, seed, progress)


METHOD = Method(
    name="fedbagan",
    summary="federated class-balancing GAN",
    config=FedBaganConfig,
    site=site,
    job=job,
    check=check,
    preload=("fednet.methods.fedbagan.job", "torchvision.utils", "sklearn.datasets"),
    extra="fednet[images]",
    requires=("matplotlib", "sklearn", "tensorboard", "torchvision"),
)
