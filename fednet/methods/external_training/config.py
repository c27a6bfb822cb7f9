"""The settings of the method `external-training`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from fednet.federated.config import Federation


class ExternalTrainingConfig(BaseModel):
    """Everything that can be set for one run.

    Attributes:
        rounds: how many.
        federation: how contributions become one model.
        linger: longest time in seconds for which a site that has the last model stays for those that have not, for
            example because they died and were started again.
        options: settings of the training scripts, the same at every site; read by nothing else.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    rounds: int = Field(default=10, ge=1)
    federation: Federation = Federation()
    linger: float = Field(default=60.0, ge=0.0)
    options: dict[str, bool | int | float | str | None] = {}
