"""The budget of a training: epochs or steps, and the batches that they buy."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from fednet.diffusion.config import DEFAULT_EPOCHS, ScoreTrainConfig


def test_a_budget_is_epochs_or_steps() -> None:
    with pytest.raises(ValidationError, match="not both"):
        ScoreTrainConfig(epochs=1, steps=1)


@pytest.mark.parametrize(
    ("config", "images", "batches"),
    [
        (ScoreTrainConfig(steps=7), 100, 7),
        (ScoreTrainConfig(epochs=2, batch=16), 32, 4),
        (ScoreTrainConfig(epochs=1, batch=16), 33, 3),
        (ScoreTrainConfig(batch=16), 16, DEFAULT_EPOCHS),
    ],
)
def test_a_budget_buys_batches(config: ScoreTrainConfig, images: int, batches: int) -> None:
    assert config.batches(images) == batches
