"""Configuration of the training of score networks, and the kinds of masks; imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

DEFAULT_EPOCHS = 60


class ScoreTrainConfig(BaseModel):
    """How a score network is trained.

    Attributes:
        epochs: passes over the agent's own data ("equal epochs": an agent with less data takes fewer steps);
            60 where neither `epochs` nor `steps` is given.
        steps: instead of `epochs`: number of batches, whatever the amount of data ("equal steps").
        batch: images a step (fewer where an agent holds fewer).
        lr: Adam's peak step size; it rises over the first twentieth of the steps and falls as a cosine to zero.
        ema: largest decay of the running average of the weights, which is what answers; the decay grows with the
            steps as (1 + step) / (10 + step), so that short runs are averaged over a short past.
        clip: largest norm of a step's gradient.
        label_dropout: share of labels that a conditional model is trained without, for guidance.
        precision: number format of the network's inner sums on a CUDA device; a CPU always uses float32.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int | None = Field(default=None, ge=1)
    steps: int | None = Field(default=None, ge=1)
    batch: int = Field(default=16, ge=1)
    lr: float = Field(default=2e-3, gt=0.0)
    ema: float = Field(default=0.999, ge=0.0, lt=1.0)
    clip: float = Field(default=1.0, gt=0.0)
    label_dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    precision: Literal["float32", "bfloat16", "float16"] = "float32"

    @model_validator(mode="after")
    def _one_budget(self) -> ScoreTrainConfig:
        if self.epochs is not None and self.steps is not None:
            raise ValueError("give `epochs` or `steps`, not both")
        return self

    def batches(self, images: int) -> int:
        """The number of batches that the budget buys for a share of `images` images."""
        if self.steps is not None:
            return self.steps
        return -(-(self.epochs or DEFAULT_EPOCHS) * images // min(self.batch, images))


MaskKind = Literal["alternating", "checkerboard", "centre", "random"]
