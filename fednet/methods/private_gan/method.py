"""The method `private-gan`: private GAN training with DP-SGD and secure aggregation.

Registered as an entry point of the group `fednet.methods`. Imports no torch: the site and the job are imported by
the process that runs them.
"""

from __future__ import annotations

from fednet.methods.contract import Method
from fednet.methods.private_gan.config import PrivateGanConfig
from fednet.methods.private_gan.disclosures import DISCLOSURES
from fednet.plugins import lazily

METHOD = Method(
    name="private-gan",
    summary="private GAN training with DP-SGD and secure aggregation",
    config=PrivateGanConfig,
    site=lazily("fednet.methods.private_gan.site:PrivateGanSite.from_overrides"),
    job=lazily("fednet.methods.private_gan.job:run_job"),
    announcer=lazily("fednet.methods.private_gan.announcer:PrivateGanAnnouncer.from_overrides"),
    check=lazily("fednet.methods.private_gan.mechanism:check"),
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
