"""A request for samples of this method: the rule, the sampler and the guidance beside labels, count and seed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fednet.methods.sample_request import SampleRequest
from fednet.rules.contract import RuleSettings
from fednet.rules.registry import ScoreRuleSettings


class ScoreSampleRequest(SampleRequest):
    """What a guest asks for.

    Attributes:
        rule: how the sites' scores are combined: a registered name, or the path of a module.
        sampler: the sampler, with its default settings.
        guidance: classifier-free guidance, 1 for none.
    """

    rule: ScoreRuleSettings = RuleSettings(kind="mixture")
    sampler: Literal["ode", "euler-maruyama", "predictor-corrector", "dpm-solver++", "heun"] = "euler-maruyama"
    guidance: Annotated[float, Field(ge=0.0)] = 1.0
