"""The configuration of federated score inference, with its defaults; checked before anything runs.

The rules are plug-ins (`fednet.rules`); SDEs, samplers, network and training have configurations of their own. This
module knows what an arm is, and what needs labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, StringConstraints, model_validator

from fednet.data.classes import ClassRef
from fednet.data.config import PartitionConfig
from fednet.data.site_data import check_data
from fednet.diffusion.config import ScoreTrainConfig
from fednet.diffusion.sampler_config import ODE, EulerMaruyama, SamplerConfig
from fednet.diffusion.sde import VP, SDEConfig
from fednet.errors import ModelError
from fednet.methods.common.config import ConfigSection, ImageConfig, RealPicturesConfig
from fednet.methods.score_inference.rule_settings import Weighted
from fednet.methods.site_config import site_section
from fednet.models.config import ScoreModelConfig, UNetConfig
from fednet.models.pretrained import open_pretrained
from fednet.rules.contract import RuleSettings
from fednet.rules.registry import ScoreRuleSettings, score_rule

ScoreArmName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
DEFAULT_TOTAL = 300


class RulePhase(ConfigSection):
    """An interval of t with a rule of its own: from t = `below` downwards, until the next phase.

    Attributes:
        below: the largest t of the phase; 1 for the first one.
        rule: the rule of the phase.
        sites: names of the sites that count in this phase; default: all.
    """

    below: float = Field(gt=0.0, le=1.0)
    rule: ScoreRuleSettings
    sites: tuple[str, ...] | None = Field(default=None, min_length=1)


class ArmConfig(ConfigSection):
    """One way of combining the sites' scores, compared with the other arms on the same noise.

    Attributes:
        rule: a rule (its registered name or the path of its module, with its settings where it has some: `mixture`,
            `{kind: my_package.my_rule, ...}`), or a schedule of phases ordered by falling `below`, the first with
            `below: 1`.
        sampler: replaces the run's sampler for this arm.
        guidance: classifier-free guidance of conditional models: 1 is the plain conditional score, 0 ignores
            the label, more than 1 exaggerates it.
    """

    rule: ScoreRuleSettings | tuple[RulePhase, ...] = RuleSettings(kind="mean")
    sampler: SamplerConfig | None = None
    guidance: float = Field(default=1.0, ge=0.0)

    @model_validator(mode="after")
    def _schedule_covers_time(self) -> ArmConfig:
        if isinstance(self.rule, tuple):
            starts = [phase.below for phase in self.rule]
            if any(score_rule(phase.rule).resamples for phase in self.rule):
                raise ValueError("a rule whose samples are particles follows one target from t = 1: no schedule of it")
            if any(_sparse(phase.rule) for phase in self.rule):
                raise ValueError("a schedule asks all sites: no `top_k` in it")
            if not starts or starts[0] != 1.0 or any(a <= b for a, b in pairwise(starts)):
                raise ValueError(f"a schedule starts with `below: 1` and falls from phase to phase, not {starts}")
        return self

    def refused_by(self, sampler: SamplerConfig) -> str:
        """Why a sampler cannot draw the arm; empty if it can."""
        if isinstance(sampler, ODE) and sampler.method == "dopri5" and _sparse(self.phases()[0].rule):
            return (
                "with top_k each evaluation asks other sites, and dopri5 needs a score that is a function of x and t: "
                "use dpm-solver++, heun, euler-maruyama, or another method of ode"
            )
        if sampler.noisy or not any(score_rule(phase.rule).resamples for phase in self.phases()):
            return ""
        kind = self.phases()[0].rule.kind
        return f"rule {kind} resamples, and {sampler.kind} adds no noise: use euler-maruyama or predictor-corrector"

    def needs_labels(self, *, prompted: bool = False) -> bool:
        """Whether it is for conditional models only; guidance is also by prompts."""
        guided = self.guidance != 1.0 and not prompted
        return guided or any(score_rule(phase.rule).needs_labels for phase in self.phases())

    def phases(self) -> tuple[RulePhase, ...]:
        """The arm's schedule; a single rule is a schedule of one phase."""
        return self.rule if isinstance(self.rule, tuple) else (RulePhase(below=1.0, rule=self.rule),)


def _sparse(rule: RuleSettings) -> bool:
    return isinstance(rule, Weighted) and rule.top_k is not None


class PromptConfig(ConfigSection):
    """What sites whose models draw from prompts are asked for.

    Attributes:
        text: the prompt.
        negative: what guidance leads away from.
        models: the asker's Stable Diffusion folder, whose text encoder and autoencoder are those of the sites.
    """

    text: str = Field(max_length=2000)
    negative: str = Field(default="", max_length=2000)
    models: Path


class SamplesConfig(ConfigSection):
    """How much is drawn in each arm.

    Attributes:
        total: number of samples, default 300; a conditional model divides them evenly among `labels`.
        per_label: instead of `total`: samples of each label.
        labels: classes to ask a conditional model for, by name or number; default: every class.
        batch: largest number of samples in one query; default: all at once.
        in_flight: batches that are drawn at once: while the asker combines one, the sites answer another. The samples
            are the same, bit for bit.
        prompt: for models that draw from prompts: what, and the models that encode it and decode the latents.
    """

    total: int | None = Field(default=None, ge=1)
    per_label: int | None = Field(default=None, ge=1)
    labels: tuple[ClassRef, ...] | None = Field(default=None, min_length=1)
    batch: int | None = Field(default=None, ge=1)
    in_flight: int = Field(default=2, ge=1, le=8)
    prompt: PromptConfig | None = None

    @model_validator(mode="after")
    def _one_measure(self) -> SamplesConfig:
        if self.total is not None and self.per_label is not None:
            raise ValueError("give `total` or `per_label`, not both")
        return self

    @property
    def count(self) -> int:
        """The number of samples where it does not depend on the labels."""
        return self.total or DEFAULT_TOTAL


class EvaluateConfig(ConfigSection):
    """What is measured once the samples are drawn.

    Attributes:
        judge: train a classifier on held-out data and score the samples with it.
        agreement: number of times t at which the sites' scores are compared on real images; 0 for none.
    """

    judge: bool = True
    agreement: int = Field(default=12, ge=0, le=200)


class ScoreInferenceConfig(ImageConfig):
    """Everything that can be set for one run of federated score inference."""

    partition: PartitionConfig = PartitionConfig(kind="disjoint")
    model: ScoreModelConfig = UNetConfig()
    sde: SDEConfig = VP()
    train: ScoreTrainConfig = ScoreTrainConfig()
    sampler: SamplerConfig = EulerMaruyama()
    samples: SamplesConfig = SamplesConfig()
    arms: dict[ScoreArmName, ArmConfig] = Field(
        default={"mean": ArmConfig(rule="mean"), "mixture": ArmConfig(rule="mixture")}, min_length=1
    )
    evaluate: EvaluateConfig = EvaluateConfig()
    report: RealPicturesConfig = RealPicturesConfig()

    @model_validator(mode="after")
    def _samplers_fit_rules(self) -> ScoreInferenceConfig:
        for name, arm in self.arms.items():
            if refusal := arm.refused_by(self.sampler_of(name)):
                raise ValueError(f"arms.{name}: {refusal}")
        return self

    def sampler_of(self, arm: str) -> SamplerConfig:
        """The sampler that an arm uses."""
        return self.arms[arm].sampler or self.sampler


def site_model(config: ScoreInferenceConfig, overrides: Mapping[str, Any] | None = None) -> ScoreInferenceConfig:
    """The configuration of a site, whose `overrides` may have a `model`: keys that replace the run's, or another kind.

    Raises:
        ModelError: the site's own model is not configured properly.
    """
    return site_section(config, "model", (overrides or {}).get("model"))


def reads_data(config: ScoreInferenceConfig, overrides: Mapping[str, Any]) -> bool:
    """Whether a site with `overrides` trains on its data: not where it brings a model along."""
    return isinstance(site_model(config, overrides).model, UNetConfig)


def require_drawable(config: ScoreInferenceConfig, *, conditional: bool, prompted: bool = False) -> None:
    """Checks that what is to be drawn can be asked of the sites' models.

    Raises:
        ModelError: labels are wanted of unconditional ones, or a prompt is missing or not understood.
    """
    if prompted != (config.samples.prompt is not None):
        raise ModelError(
            "these models draw from prompts: set samples.prompt" if prompted else "samples.prompt needs models of text"
        )
    if conditional:
        return
    if config.samples.labels is not None or config.samples.per_label is not None:
        raise ModelError("samples.labels and samples.per_label need models with labels (`model.conditional: true`)")
    for name, arm in config.arms.items():
        if arm.needs_labels(prompted=prompted):
            raise ModelError(
                f"arms.{name}: guidance and rules for labels need models with labels (`model.conditional: true`)"
            )


def check(config: ScoreInferenceConfig, overrides: Mapping[str, Any] | None = None) -> None:
    """Checks that the data and the model, those of a site with `overrides`, are there; reads no picture and no weights.

    Raises:
        DataError: data are missing or malformed.
        ModelError: a model is.
    """
    model = site_model(config, overrides).model
    if isinstance(model, UNetConfig):
        check_data(config.data, overrides)
        return
    open_pretrained(model)
