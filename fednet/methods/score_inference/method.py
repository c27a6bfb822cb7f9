"""The method `score-inference`: federated inference of score-based diffusion models.

Registered as an entry point of the group `fednet.methods`. Imports no torch: the site and the job are imported by
the process that runs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fednet.methods.contract import Drawer, Method
from fednet.methods.score_inference.commands import COMMANDS
from fednet.methods.score_inference.config import ScoreInferenceConfig, check, reads_data
from fednet.methods.score_inference.disclosures import DISCLOSURES
from fednet.methods.score_inference.sample_request import ScoreSampleRequest
from fednet.plugins import lazily

if TYPE_CHECKING:
    from fednet.api import Network, Progress, Responder, SiteContext
    from fednet.reporting.samples import SampleBatch


def site(config: ScoreInferenceConfig, context: SiteContext, overrides: Mapping[str, Any]) -> Responder:
    """Makes the side that holds data and a model."""
    from fednet.methods.score_inference.site import ScoreInferenceSite  # noqa: PLC0415 - imports torch

    return ScoreInferenceSite.from_overrides(config, context, overrides)


def job(config: ScoreInferenceConfig, network: Network, folder: Path, seed: int, progress: Progress) -> None:
    """Does the driver's work."""
    from fednet.methods.score_inference.job import run_job  # noqa: PLC0415 - imports torch

    run_job(config, network, folder, seed, progress)


def draw(network: Network, request: ScoreSampleRequest, progress: Progress) -> SampleBatch:
    """Draws samples from a live cluster."""
    from fednet.methods.score_inference.sampling import sample  # noqa: PLC0415 - imports torch

    return sample(network, request, progress)


METHOD = Method(
    name="score-inference",
    summary="federated inference of score-based diffusion models",
    config=ScoreInferenceConfig,
    site=site,
    job=job,
    announcer=lazily("fednet.methods.score_inference.announcer:ScoreInferenceAnnouncer.from_overrides"),
    check=check,
    agree=lazily("fednet.methods.common.measuring_data:require_measurable"),
    commands=COMMANDS,
    drawer=Drawer(ScoreSampleRequest, draw),
    preload=(
        "fednet.methods.score_inference.job",
        "fednet.methods.score_inference.site",
        "diffusers.models.unets.unet_2d",
        "torchdiffeq",
        "torchvision.utils",
        "sklearn.datasets",
    ),
    extra="fednet[diffusion]",
    requires=("diffusers", "matplotlib", "sklearn", "tensorboard", "torchdiffeq", "torchvision"),
    disclosures=DISCLOSURES,
    reads_data=reads_data,
    site_sections=("data", "model"),
)
