"""A card fits into a site's capabilities, and holds nothing that is not finite."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from fednet.diffusion.expert import ExpertCard

CARD = {"kind": "diffusers", "network": "UNet2DModel", "prediction": "epsilon", "schedule": "DDPMScheduler"}


def test_a_card_survives_json() -> None:
    card = ExpertCard.model_validate(CARD)
    assert ExpertCard.model_validate_json(card.model_dump_json()) == card
    assert (card.space, card.value_range) == ("pixels", (-1.0, 1.0))


@pytest.mark.parametrize("change", [{"network": "x" * 121}, {"value_range": (0.0, float("inf"))}, {"space": "words"}])
def test_what_is_no_card_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ExpertCard.model_validate(CARD | change)
