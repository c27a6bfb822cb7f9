"""What a rule is: one typed value, the same for the built-in rules and for those of other packages.

A module defines `RULE = Rule(...)`. It is found by the entry-point group `fednet.rules`, or where a configuration says
`rule: my_package.my_module`. A rule combines scores (`score-inference`), updates (`federation`), or both; each is a few
small pure functions. `fednet.testing.check_rule` tests the identities that a rule must keep. Configurations are checked
with these values, so nothing that a rule's module imports at its top may import torch: functions import it when they
are called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from fednet.diffusion.combination import CombinationRule, LabelCounts
    from fednet.federated.blocks import Formula


class RuleSettings(BaseModel):
    """The settings of a rule in a configuration: `rule: NAME`, or `rule: {kind: NAME, ...}`.

    Attributes:
        kind: the rule's registered name or the path of its module; a rule with settings of its own inherits it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: str


@dataclass(frozen=True)
class ScoreRule:
    """How the scores of several sites become one score.

    Attributes:
        make: (settings, what the sites hold) -> the rule of one batch of samples: pure functions over an explicit
            state, see `fednet.diffusion.combination.CombinationRule`.
        settings: the model of its settings.
        needs_labels: whether it is for conditional models only.
        resamples: whether it weighs the samples of a batch as particles: then it needs a sampler with noise, and has
            no place in a schedule.
    """

    make: Callable[[Any, LabelCounts], CombinationRule]
    settings: type[RuleSettings] = RuleSettings
    needs_labels: bool = False
    resamples: bool = False


@dataclass(frozen=True)
class Contributions:
    """What a rule for updates is told before it sees a number.

    Attributes:
        names: of the contributors, sorted.
        weights: of every contributor, by name, finite and > 0.
        distances: for a rule that `compares`: the squared distance of whole contributions by the positions (i, j) of
            two contributors, i < j; over all float and complex tensors, in float64.
    """

    names: tuple[str, ...]
    weights: Mapping[str, float]
    distances: Mapping[tuple[int, int], float] | None = None


@dataclass(frozen=True)
class UpdateRule:
    """How the contributions to a round become one, coordinate by coordinate.

    Contributions are streamed: a formula sees blocks of coordinates, in any division, and a peer may see a share of the
    chunks only. A rule that has to look at whole contributions `compares` them: the round is then no sharded one,
    every peer sees every chunk twice, first for the distances; integers and bools are then the coordinate-wise median,
    since a formula that is chosen by distances of weights says nothing about counters.

    Attributes:
        formula: (settings, contributions) -> the function that combines float64 blocks (n,) in the order of the names,
            which it may overwrite. The same bits must come of every division into blocks.
        settings: the model of its settings.
        compares: whether it needs the distances of whole contributions.
        least: settings -> the number of contributions that it needs, at least 1.
    """

    formula: Callable[[Any, Contributions], Formula]
    settings: type[RuleSettings] = RuleSettings
    compares: bool = False
    least: Callable[[Any], int] = lambda _: 1


@dataclass(frozen=True)
class Rule:
    """A rule for scores, for updates, or for both under one name.

    Attributes:
        name: in a configuration.
        summary: one line: what it is, and its source.
        scores: combines scores.
        updates: combines updates.
    """

    name: str
    summary: str
    scores: ScoreRule | None = None
    updates: UpdateRule | None = None
