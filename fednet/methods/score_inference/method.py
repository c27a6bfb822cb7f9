"""The method `score-inference`: federated inference of score-based diffusion models.

Registered as an entry point of the group `fednet.methods`. Imports no torch: the site and the job are imported by
the process that runs them.
"""

from __future__ import annotations

from fednet.methods.contract import Drawer, Method
from fednet.methods.score_inference.commands import COMMANDS
from fednet.methods.score_inference.config import ScoreInferenceConfig, check, reads_data
from fednet.methods.score_inference.disclosures import DISCLOSURES
from fednet.methods.score_inference.sample_request import ScoreSampleRequest
from fednet.plugins import lazily

METHOD = Method(
    name="score-inference",
    summary="federated inference of score-based diffusion models",
    config=ScoreInferenceConfig,
    site=lazily("fednet.methods.score_inference.site:ScoreInferenceSite.from_overrides"),
    job=lazily("fednet.methods.score_inference.job:run_job"),
    announcer=lazily("fednet.methods.score_inference.announcer:ScoreInferenceAnnouncer.from_overrides"),
    check=check,
    agree=lazily("fednet.methods.common.measuring_data:require_measurable"),
    commands=COMMANDS,
    drawer=Drawer(ScoreSampleRequest, lazily("fednet.methods.score_inference.sampling:sample")),
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
