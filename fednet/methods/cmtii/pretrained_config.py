"""The configuration of the real models. Imports no model library, since the command line reads configurations."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class PretrainedBackendConfig(BaseModel):
    """Which models a site loads, and how it generates; the defaults are the source's.

    Attributes:
        kind: selects this back-end.
        clip: a name that open_clip knows, with `checkpoint`; or, without, a folder as its models are published.
        checkpoint: the safetensors file of the weights.
        image_generator: a diffusers text-to-image folder, for example of BK-SDM-v2-small.
        steps: of the image generator's scheduler for a picture.
        guidance: classifier-free guidance; 1 for none.
        batch: pictures generated at a time.
        gamma: of the min-SNR weights.
        half: the number format of inner sums on a CUDA device, null for float32; a CPU always uses float32.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["real"] = "real"
    clip: str = "ViT-H-14"
    checkpoint: Path | None = None
    image_generator: Path
    steps: int = Field(default=50, ge=1, le=1000)
    guidance: float = Field(default=7.5, ge=1.0, allow_inf_nan=False)
    batch: int = Field(default=2, ge=1)
    gamma: float = Field(default=5.0, gt=0.0, allow_inf_nan=False)
    half: Literal["bfloat16", "float16"] | None = "bfloat16"
