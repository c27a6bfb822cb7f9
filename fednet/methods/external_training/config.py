"""The settings of the method `external-training`."""

from __future__ import annotations

from dataclasses import replace

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fednet.federated.config import Federation
from fednet.federated.floors import Floor
from fednet.privacy.config import PrivacyTerms, require_sum


class ExternalTrainingConfig(BaseModel):
    """Everything that can be set for one run.

    Attributes:
        rounds: how many.
        federation: how contributions become one model.
        privacy: of a site's participation (client level, DP-FedAvg): its change is clipped and gets noise, and its
            ledger counts what the rounds cost; null: none.
        linger: longest time in seconds for which a site that has the last model stays for those that have not, for
            example because they died and were started again.
        options: settings of the training scripts, the same at every site; read by nothing else.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    rounds: int = Field(default=10, ge=1)
    federation: Federation = Federation()
    privacy: PrivacyTerms | None = None
    linger: float = Field(default=60.0, ge=0.0)
    options: dict[str, bool | int | float | str | None] = {}

    @model_validator(mode="after")
    def _clients_are_terms_of_a_sum(self) -> ExternalTrainingConfig:
        if self.privacy is not None:
            require_sum(self.federation, "privacy")
        return self

    def floor(self) -> Floor:
        """What a site asks of every round: with privacy all count the same, since each adds a part of the noise."""
        return replace(Floor.of(self.federation), shares_noise=self.privacy is not None)
