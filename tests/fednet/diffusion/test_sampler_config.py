"""What the samplers' settings accept and refuse."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from fednet.diffusion.sampler_config import ODE, DPMSolver, EulerMaruyama, Heun, PredictorCorrector, SamplerConfig

ADAPTER: TypeAdapter[ODE | EulerMaruyama | PredictorCorrector | DPMSolver | Heun] = TypeAdapter(SamplerConfig)


def test_the_kind_chooses_the_sampler() -> None:
    assert ADAPTER.validate_python({"kind": "ode", "rtol": 1e-5}) == ODE(rtol=1e-5)
    assert ADAPTER.validate_python({"kind": "euler-maruyama", "steps": 3}) == EulerMaruyama(steps=3)
    assert ADAPTER.validate_python({"kind": "dpm-solver++", "steps": 8}) == DPMSolver(steps=8)
    assert ADAPTER.validate_python({"kind": "heun"}) == Heun(steps=20, spacing="karras")
    assert isinstance(ADAPTER.validate_python({"kind": "predictor-corrector"}), PredictorCorrector)


@pytest.mark.parametrize(
    "bad",
    [{"kind": "ode", "method": "dopri9"}, {"kind": "euler-maruyama", "rtol": 1}, {"kind": "ode", "steps": 0}, {}],
)
def test_nonsense_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ADAPTER.validate_python(bad)
