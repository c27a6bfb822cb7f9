"""The names of distances, and the length of a judge's training, for configurations; imports no torch."""

from __future__ import annotations

from typing import Literal

DistanceName = Literal["mse", "ssim", "perceptual", "lpips"]
STEPS = 400
