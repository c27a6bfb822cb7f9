"""Configuration of federated aggregation, and which rules, transports and options can be combined.

The rules are plug-ins (`fednet.rules`); the settings of those that are built in stand here, their formulas in
`averaging`, `robust` and `update_rules`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from fednet.rules.contract import RuleSettings
from fednet.rules.registry import OF_A_PEER, UpdateRuleSettings, find, update_rule

MIN_SHARDED = 3
"""Members from which on `transport: auto` reduces in shards; with two, as many bytes travel either way."""


_FRACTION = re.compile(r"(\d{1,6})/([1-9]\d{0,5})")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Mean(RuleSettings):
    """The weighted mean (FedAvg, McMahan et al. 2017, arXiv 1602.05629)."""

    kind: Literal["mean"] = "mean"


class Median(RuleSettings):
    """The coordinate-wise median (Yin et al. 2018, arXiv 1803.01498); weights do not count."""

    kind: Literal["median"] = "median"


class TrimmedMean(RuleSettings):
    """The coordinate-wise mean without the extremes (Yin et al. 2018); weights do not count.

    Attributes:
        trim: fraction of the contributions that is trimmed at either end of every coordinate, floor(trim * n) of n;
            with fewer than 1 / trim contributions it is a plain mean.
    """

    kind: Literal["trimmed-mean"] = "trimmed-mean"
    trim: float = Field(default=0.2, ge=0.0, lt=0.5)


class Krum(RuleSettings):
    """Krum and Multi-Krum (Blanchard et al. 2017, arXiv 1703.02757).

    Attributes:
        byzantine: number of contributions that may be arbitrary; a round needs at least 2 * byzantine + 3.
        keep: number of best contributions that are averaged, 1 for Krum; a round needs byzantine + 2 + keep.
    """

    kind: Literal["krum"] = "krum"
    byzantine: int = Field(default=1, ge=0)
    keep: int = Field(default=1, ge=1)


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


class Yogi(_Section):
    """FedYogi (Reddi et al. 2021, algorithm 2): Adam whose second moment moves by bounded steps."""

    kind: Literal["yogi"] = "yogi"
    rate: float = Field(default=0.01, gt=0.0)
    beta1: float = Field(default=0.9, ge=0.0, lt=1.0)
    beta2: float = Field(default=0.99, ge=0.0, lt=1.0)
    tau: float = Field(default=1e-3, gt=0.0)


class Adagrad(_Section):
    """FedAdagrad (Reddi et al. 2021, algorithm 2): the second moment is a sum; beta1 is 0 in their experiments."""

    kind: Literal["adagrad"] = "adagrad"
    rate: float = Field(default=0.01, gt=0.0)
    beta1: float = Field(default=0.0, ge=0.0, lt=1.0)
    tau: float = Field(default=1e-3, gt=0.0)


ServerConfig = Annotated[Replace | Momentum | Adam | Yogi | Adagrad, Field(discriminator="kind")]


class Secure(_Section):
    """Secure aggregation: only the sum of the contributions is revealed (`fednet.privacy.secure_sum`).

    Attributes:
        clip: bound on the change of every weight in one round; larger changes are clipped before masking. Running
            statistics and counters have wider bounds of their own (`fednet.privacy.quantise`).
        threshold: number of survivors that a sum needs; default: more than two thirds of the contributors.
    """

    clip: float = Field(default=4.0, ge=1e-6, le=1e6)
    threshold: int | None = Field(default=None, ge=3)


class Buffer(_Section):
    """Asynchronous, buffered rounds (FedBuff, Nguyen et al. 2022, arXiv 2106.06639).

    Attributes:
        size: number of contributions at which a round closes; slower participants finish their work and contribute
            to a later round.
        exponent: how fast the weight of a contribution falls with its staleness; see `staleness`.
    """

    size: int = Field(ge=1)
    exponent: float = Field(default=0.5, ge=0.0, allow_inf_nan=False)


def _fraction(value: Any) -> Any:
    """The number that a text such as `1/16` stands for; any other value as it is."""
    parts = _FRACTION.fullmatch(value) if isinstance(value, str) else None
    return int(parts[1]) / int(parts[2]) if parts else value


class Federation(_Section):
    """How the contributions to a round are combined.

    Attributes:
        rule: the aggregation rule: a registered name or the path of a module, with its settings where it has some
            (`krum`, `{kind: krum, keep: 2}`, `my_package.my_rule`).
        server: the server optimiser; there is no server, every peer takes the same step.
        transport: `sharded`: each peer reduces a share of the chunks and sends the result to the others
            (reduce-scatter), so that a peer sends and receives about twice the model, however many peers there are;
            `mesh`: every peer receives all contributions; `auto`: sharded from three members on, except for rules that
            compare whole contributions (krum). Secure sums are always sharded.
        participation: fraction of the live peers that is sampled for a round, at least one.
        quorum: minimum number of contributions of a round.
        secure: secure aggregation; needs the rule `mean`.
        buffer: asynchronous rounds.
        audit: fraction of the chunks of each other member's share that a member reduces again, as a number or as text
            (`1/16`). Without that, a member can lie about its share and all vote for what they received.
    """

    rule: UpdateRuleSettings = Mean()
    server: ServerConfig = Replace()
    transport: Literal["auto", "mesh", "sharded"] = "auto"
    participation: float = Field(default=1.0, gt=0.0, le=1.0)
    quorum: int = Field(default=1, ge=1)
    secure: Secure | None = None
    buffer: Buffer | None = None
    audit: Annotated[float, BeforeValidator(_fraction), Field(ge=0.0, le=1.0)] = 1 / 16

    def __setstate__(self, state: dict[Any, Any]) -> None:
        """Finds the rule in a process that is started with this configuration: a peer may name it there."""
        super().__setstate__(state)
        find(self.rule.kind)

    @classmethod
    def of_peer(cls, text: str) -> Federation:
        """The federation that a peer has sent, as JSON; no module is imported for it.

        Raises:
            ValidationError: it is none, or names a rule that this process does not know.
        """
        return cls.model_validate_json(text, context=OF_A_PEER)

    @property
    def least(self) -> int:
        """The number of contributions that the rule needs."""
        return update_rule(self.rule).least(self.rule)

    def sharded(self, members: int) -> bool:
        """Whether a round of this number of members is reduced in shards."""
        if self.transport == "auto":
            return self.secure is not None or (members >= MIN_SHARDED and not update_rule(self.rule).compares)
        return self.transport == "sharded"

    @model_validator(mode="after")
    def _comparing_needs_mesh(self) -> Federation:
        if self.transport == "sharded" and update_rule(self.rule).compares:
            raise ValueError(
                f"{self.rule.kind} compares whole contributions, and no peer has one with `transport: sharded`: set "
                "`transport: mesh`"
            )
        return self

    @model_validator(mode="after")
    def _secure_needs_mean(self) -> Federation:
        if self.secure is not None and not isinstance(self.rule, Mean):
            raise ValueError(
                f"rule {self.rule.kind} compares single contributions, and a secure sum reveals none: set "
                "`rule: {kind: mean}` or remove `secure`"
            )
        if self.secure is not None and self.transport == "mesh":
            raise ValueError("a secure sum is reduced in shards: set `transport: auto` or remove `secure`")
        if self.secure is not None and self.buffer is not None:
            raise ValueError(
                "`buffer` combines contributions to different base models, and masks cancel only within one round: "
                "remove `secure` or `buffer`"
            )
        return self

    @model_validator(mode="after")
    def _buffer_is_large_enough(self) -> Federation:
        if self.buffer is None:
            return self
        needed = self.least
        if self.buffer.size < max(needed, self.quorum):
            what = f"{self.rule.kind} needs {needed}" if needed > self.quorum else f"the quorum is {self.quorum}"
            raise ValueError(
                f"a round closes with `buffer.size` = {self.buffer.size} contributions, but {what}: raise `buffer.size`"
            )
        return self
