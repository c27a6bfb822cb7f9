"""What can be asked of every method that draws samples; a method with settings of its own derives from it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from fednet.data.classes import ClassRef


class SampleRequest(BaseModel):
    """A request for samples, as `fednet sample` makes it.

    Attributes:
        labels: which classes, by name or number; None for all of them, or where the sites have none.
        count: how many of each label; how many in all where the sites have none.
        seed: of the noise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: tuple[ClassRef, ...] | None = None
    count: Annotated[int, Field(ge=1)] = 10
    seed: int = 0
