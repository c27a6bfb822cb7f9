"""The method `cmtii`: interchange of pseudo-word embeddings.

Registered as an entry point of the group `fednet.methods`. Imports no torch: the site and the job are imported by
the process that runs them.
"""

from __future__ import annotations

from fednet.methods.cmtii.config import CmtiiConfig, check
from fednet.methods.cmtii.disclosures import DISCLOSURES
from fednet.methods.contract import Method
from fednet.plugins import lazily

METHOD = Method(
    name="cmtii",
    summary="interchange of pseudo-word embeddings",
    config=CmtiiConfig,
    site=lazily("fednet.methods.cmtii.site:CmtiiSite.from_overrides"),
    job=lazily("fednet.methods.cmtii.job:run_job"),
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
