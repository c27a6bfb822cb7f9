"""The models of the sites are listed where one of them was brought along."""

from __future__ import annotations

from fednet.diffusion.expert import ExpertCard
from fednet.diffusion.sde import VP
from fednet.methods.score_inference.messages import ScoreCapabilities
from fednet.methods.score_inference.models_section import COLUMNS, with_models
from fednet.reporting.summary import Summary


def capabilities(kind: str) -> ScoreCapabilities:
    card = ExpertCard(kind=kind, network="UNet2DModel", prediction="epsilon", schedule="DDPMScheduler")
    shape = {"classes": (), "shape": (1, 4, 4), "pictures": 7, "histogram": (), "conditional": False}
    return ScoreCapabilities.model_validate({**shape, "sde": VP(), "expert": card})


def test_brought_models_are_listed() -> None:
    summary = Summary(title="x", sections=())
    assert with_models(summary, {"a": capabilities("unet")}) is summary
    (section,) = with_models(summary, {"a": capabilities("unet"), "b": capabilities("diffusers")}).sections
    assert section.table
    assert section.table.columns == COLUMNS
    assert section.table.rows[1] == ("b", "diffusers", "UNet2DModel", "epsilon", "DDPMScheduler", "float32", 7)
