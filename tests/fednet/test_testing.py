"""The ready-made test of a rule: our own rules pass it, and each identity is missed where it does not hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from fednet.diffusion.combination import CombinationRule, LabelCounts, RuleState, ScoreAnswers, SolverStep
from fednet.errors import UnknownRule
from fednet.federated.blocks import Formula
from fednet.rules import registry
from fednet.rules.contract import Contributions, Rule, RuleSettings, ScoreRule, UpdateRule
from fednet.testing import check_rule


@pytest.mark.parametrize("name", registry.names())
def test_the_built_in_rules_keep_the_identities(name: str) -> None:
    check_rule(name)


@pytest.mark.parametrize(
    ("name", "settings"), [("krum", {"keep": 2}), ("krum", {"byzantine": 0}), ("trimmed-mean", {"trim": 0.4})]
)
def test_so_they_do_with_settings(name: str, settings: dict[str, Any]) -> None:
    check_rule(name, **settings)


def score_rule(weigh: Callable[[ScoreAnswers], Tensor]) -> Rule:
    """A rule with the weights (agents, n, 1, 1, 1) that a function gives."""

    def make(_: RuleSettings, held: LabelCounts) -> CombinationRule:
        def init(count: int) -> RuleState:
            return RuleState.fresh(len(held.names), count)

        def combine(_: RuleState, answers: ScoreAnswers, __: SolverStep) -> Tensor:
            return (weigh(answers) * answers.scores).sum(0)

        def advance(state: RuleState, *_: Any) -> RuleState:
            return replace(state, log_p=state.log_p + torch.arange(len(held.names))[:, None])

        return CombinationRule(init, combine, advance, follows_density=False)

    return Rule("mine", "of a test", scores=ScoreRule(make))


def update_rule(formula: Callable[[Contributions], Formula]) -> Rule:
    return Rule("mine", "of a test", updates=UpdateRule(lambda _, contributions: formula(contributions)))


def changed(answers: ScoreAnswers) -> Tensor:
    answers.scores[0] += 1
    return torch.full((5, 1, 1, 1, 1), 0.2)


def mean(blocks: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(blocks)).mean(0)


def spread(blocks: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(blocks)).std(0)


WRONG: list[tuple[str, Rule]] = [
    ("weights sum to 1", score_rule(lambda _: torch.full((5, 1, 1, 1, 1), 0.25))),
    ("order of the agents", score_rule(lambda _: torch.tensor([1.0, 0, 0, 0, 0])[:, None, None, None, None])),
    ("log densities go with", score_rule(lambda _: torch.full((5, 1, 1, 1, 1), 0.2))),
    ("answers are left as they are", score_rule(changed)),
    ("weights sum to 1", update_rule(lambda _: lambda blocks: (blocks[0] * 0.9,))),
    ("names do not matter", update_rule(lambda _: lambda blocks: (blocks[0],))),
    (
        "streams by chunk",
        update_rule(lambda _: lambda blocks: (mean(blocks) + spread(blocks).mean(),)),
    ),
]


@pytest.mark.parametrize(("identity", "rule"), WRONG, ids=range(len(WRONG)))
def test_a_rule_that_does_not_keep_one_is_told_which(
    identity: str, rule: Rule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry._RULES._loaded, "mine", rule)
    with pytest.raises(AssertionError, match=f"rule 'mine': .*{identity}"):
        check_rule("mine")


def test_an_absent_agent_s_part_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def weights(answers: ScoreAnswers) -> Tensor:
        return torch.full((5, 1, 1, 1, 1), 0.2)

    def make(settings: RuleSettings, held: LabelCounts) -> CombinationRule:
        whole = score_rule(weights).scores
        assert whole is not None
        return replace(whole.make(settings, held), advance=lambda state, *_: state)

    monkeypatch.setitem(registry._RULES._loaded, "mine", Rule("mine", "of a test", scores=ScoreRule(make)))
    with pytest.raises(AssertionError, match="does not answer has no part"):
        check_rule("mine")


def test_no_rule_is_an_unknown_one() -> None:
    with pytest.raises(UnknownRule):
        check_rule("no-such-rule")
