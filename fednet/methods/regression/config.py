"""The configuration of the regression, with its defaults; checked before anything runs."""

from __future__ import annotations

from pydantic import Field

from fednet.federated.config import Federation
from fednet.methods.common.config import ConfigSection


class RegressionConfig(ConfigSection):
    """Everything that can be set for one run.

    Attributes:
        slope: of the line through the origin that all points lie on.
        examples: points of every site.
        spread: a site's points lie within this of its centre, in distances of two centres: less than .5 keeps them
            disjoint.
        steps: of gradient descent in a round, each on all of a site's points.
        lr: their step size.
        rounds: how many.
        at: the x at which predictions are compared, far from all points.
        federation: how contributions become one model.
    """

    slope: float = 2.0
    examples: int = Field(default=16, ge=1, le=100_000)
    spread: float = Field(default=0.05, ge=0.0, lt=0.5)
    steps: int = Field(default=10, ge=1)
    lr: float = Field(default=0.1, gt=0.0)
    rounds: int = Field(default=30, ge=1)
    at: float = 5.0
    federation: Federation = Federation()
