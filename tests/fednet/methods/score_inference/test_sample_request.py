"""A request for samples offers what the method's configuration offers."""

from __future__ import annotations

from typing import get_args

from fednet.diffusion.sampler_config import ODE, DPMSolver, EulerMaruyama, Heun, PredictorCorrector
from fednet.methods.score_inference.sample_request import ScoreSampleRequest

ALL = (ODE, EulerMaruyama, PredictorCorrector, DPMSolver, Heun)


def test_every_sampler_can_be_asked_for() -> None:
    kinds = [get_args(kind.model_fields["kind"].annotation) for kind in ALL]
    offered = get_args(ScoreSampleRequest.model_fields["sampler"].annotation)
    assert offered == tuple(name for names in kinds for name in names)
