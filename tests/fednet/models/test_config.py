"""The configuration of the networks is checked, and read without torch."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import BaseModel, ValidationError

from fednet.models.config import CodecConfig, GanConfig, UNetConfig


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (UNetConfig, {"channels": []}),
        (UNetConfig, {"layers": 0}),
        (GanConfig, {"kind": "wgan"}),
        (GanConfig, {"width": 2}),
        (CodecConfig, {"latent": 0}),
        (CodecConfig, {"depth": 3}),
    ],
)
def test_a_wrong_shape_is_refused(kind: type[BaseModel], wrong: dict[str, object]) -> None:
    kind()
    with pytest.raises(ValidationError):
        kind.model_validate(wrong)


@pytest.mark.parametrize("module", ["fednet.models.config", "fednet.diffusion.config", "fednet.metrics.config"])
def test_it_is_read_without_torch(module: str) -> None:
    subprocess.run([sys.executable, "-c", f"import sys, {module}; assert 'torch' not in sys.modules"], check=True)
