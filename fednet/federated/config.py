"""How contributions become one model: the settings, checked before anything runs.

Knows which rules and transports fit each other; what they do is in `averaging`, `robust` and `aggregation`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Mean(_Section):
    """The mean weighted by each contribution's weight (FedAvg, McMahan et al. 2017, arXiv 1602.05629)."""

    kind: Literal["mean"] = "mean"


class Median(_Section):
    """The coordinate-wise median (Yin et al. 2018, arXiv 1803.01498); weights do not count."""

    kind: Literal["median"] = "median"


class TrimmedMean(_Section):
    """The coordinate-wise mean without the extremes (Yin et al. 2018); weights do not count.

    Attributes:
        trim: the share of contributions that is left out at either end of every coordinate: floor(trim * n) of n, so
            that fewer than 1 / trim contributions are a plain mean.
    """

    kind: Literal["trimmed-mean"] = "trimmed-mean"
    trim: float = Field(default=0.2, ge=0.0, lt=0.5)


class Krum(_Section):
    """The contribution that is closest to its neighbours, or the mean of several (Blanchard et al. 2017).

    Attributes:
        byzantine: how many contributions may be arbitrary; a round needs at least 2 * byzantine + 3.
        keep: how many of the best are averaged: 1 is Krum, more is Multi-Krum; a round needs byzantine + 2 + keep.
    """

    kind: Literal["krum"] = "krum"
    byzantine: int = Field(default=1, ge=0)
    keep: int = Field(default=1, ge=1)


RuleConfig = Annotated[Mean | Median | TrimmedMean | Krum, Field(discriminator="kind")]


class Replace(_Section):
    """The aggregate is the new model."""

    kind: Literal["replace"] = "replace"


class Momentum(_Section):
    """FedAvgM (Hsu et al. 2019, arXiv 1909.06335): the mean change is a gradient for SGD with momentum."""

    kind: Literal["momentum"] = "momentum"
    rate: float = Field(default=1.0, gt=0.0)
    beta: float = Field(default=0.9, ge=0.0, lt=1.0)


class Adam(_Section):
    """FedAdam (Reddi et al. 2021, arXiv 2003.00295, algorithm 2): the mean change is a gradient for Adam."""

    kind: Literal["adam"] = "adam"
    rate: float = Field(default=0.01, gt=0.0)
    beta1: float = Field(default=0.9, ge=0.0, lt=1.0)
    beta2: float = Field(default=0.99, ge=0.0, lt=1.0)
    tau: float = Field(default=1e-3, gt=0.0)


ServerConfig = Annotated[Replace | Momentum | Adam, Field(discriminator="kind")]


class Secure(_Section):
    """Nobody sees a contribution, everybody the sum (Bonawitz et al. 2017; `fednet.privacy.secure_sum`).

    Attributes:
        clip: the largest change of any value of the model in one round; what is beyond is cut off before masking.
        threshold: how many survivors a sum needs; none given means more than two thirds of the contributors.
    """

    clip: float = Field(default=4.0, ge=1e-6, le=1e6)
    threshold: int | None = Field(default=None, ge=3)


class Buffer(_Section):
    """Rounds that wait for nobody in particular (FedBuff, Nguyen et al. 2022, arXiv 2106.06639).

    Attributes:
        size: a round closes once so many contributions are in; who is not among them goes on with its work and
            contributes to a later round.
        exponent: how quickly a contribution loses weight with the rounds it comes late; see `staleness`.
    """

    size: int = Field(ge=1)
    exponent: float = Field(default=0.5, ge=0.0, allow_inf_nan=False)


class Federation(_Section):
    """How contributions become one model.

    Attributes:
        rule: how they are combined.
        server: what the combination does to the model. There is no server: every peer takes the same step.
        transport: `mesh`, everyone hears everyone; or `sharded`, each peer combines one shard and hands it round,
            so that a peer sends about twice the model whatever the number of peers.
        participation: the share of the living peers that is drawn to contribute to a round; at least one is.
        quorum: fewest contributions that a round closes with.
        secure: contributions are masked, and only their sum is opened; needs the rule `mean`.
        buffer: asynchronous rounds, that close as soon as some contributions are in.
    """

    rule: RuleConfig = Mean()
    server: ServerConfig = Replace()
    transport: Literal["mesh", "sharded"] = "mesh"
    participation: float = Field(default=1.0, gt=0.0, le=1.0)
    quorum: int = Field(default=1, ge=1)
    secure: Secure | None = None
    buffer: Buffer | None = None

    @model_validator(mode="after")
    def _shards_are_combined_apart(self) -> Federation:
        if self.transport == "sharded" and isinstance(self.rule, Krum):
            raise ValueError("krum compares whole contributions and nobody holds one: set `transport: mesh`")
        return self

    @model_validator(mode="after")
    def _a_sum_is_all_that_is_seen(self) -> Federation:
        if self.secure is not None and not isinstance(self.rule, Mean):
            raise ValueError(
                f"{self.rule.kind} compares contributions, of which a secure sum shows none: set `rule: {{kind: mean}}`"
                " or leave `secure` out"
            )
        if self.secure is not None and self.buffer is not None:
            raise ValueError(
                "`buffer` mixes contributions that began from different models, and masks cancel only among peers of "
                "one round: leave `secure` or `buffer` out"
            )
        return self

    @model_validator(mode="after")
    def _a_buffer_holds_enough(self) -> Federation:
        if self.buffer is None:
            return self
        rule = self.rule
        needed = max(2 * rule.byzantine + 3, rule.byzantine + 2 + rule.keep) if isinstance(rule, Krum) else 1
        if self.buffer.size < max(needed, self.quorum):
            what = f"krum needs {needed}" if needed > self.quorum else f"the quorum is {self.quorum}"
            raise ValueError(f"a round closes with `buffer.size` {self.buffer.size} contributions and {what}: raise it")
        return self


def wants_secure(settings: BaseModel) -> bool:
    """Whether a `Federation` somewhere among a method's settings is a secure one."""
    parts = [getattr(settings, name) for name in type(settings).model_fields]
    return any(
        part.secure is not None if isinstance(part, Federation) else wants_secure(part)
        for part in parts
        if isinstance(part, BaseModel)
    )
