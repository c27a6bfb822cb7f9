"""Ready-made tests for the authors of plug-ins: the identities that a rule must keep. Needs no test framework.

    from fednet.testing import check_rule

    def test_my_rule_keeps_the_identities() -> None:
        check_rule("my_package.my_rule")
        check_rule("my_package.my_rule", strength=0.5)   # with settings

An identity that does not hold is an `AssertionError` that says which, and what came out. fednet's own rules pass it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fednet.diffusion.combination import CombinationRule, LabelCounts, RuleState, ScoreAnswers, SolverStep
from fednet.federated.blocks import compute
from fednet.federated.update_rules import reduce
from fednet.rules.contract import Contributions, Rule, RuleSettings
from fednet.rules.registry import find

SAMPLES, SHAPE, AGENTS = 6, (1, 4, 4), 5
TOLERANCE = 2e-5


def check_rule(name: str, **settings: Any) -> None:
    """Tests the identities of a rule, for scores and for updates as far as it combines them.

    Args:
        name: a registered name, or the path of a module with a `RULE`.
        settings: of the rule.

    Raises:
        UnknownRule: there is no such rule.
        AssertionError: an identity does not hold.
    """
    rule = find(name)
    assert rule.scores or rule.updates, f"{name} combines neither scores nor updates"  # noqa: S101
    if rule.scores is not None:
        chosen = rule.scores.settings.model_validate({"kind": name, **settings})
        _check_scores(rule, chosen)
    if rule.updates is not None:
        chosen = rule.updates.settings.model_validate({"kind": name, **settings})
        _check_updates(rule, chosen)


def _require(holds: bool, rule: Rule, identity: str, found: object) -> None:
    if not holds:
        raise AssertionError(f"rule {rule.name!r}: {identity}; found {found}")


def _close(one: Tensor, other: Tensor) -> bool:
    scale = max(1.0, float(other.abs().max()))
    return one.shape == other.shape and bool(torch.allclose(one / scale, other / scale, atol=TOLERANCE, rtol=0))


class _Walk:
    """A few steps of a rule on given answers: the reverse SDE, and a stretch of the probability-flow ODE."""

    def __init__(self, rule: CombinationRule, order: Sequence[int], seed: int = 0) -> None:
        self.rule, self.order, self.random = rule, list(order), torch.Generator().manual_seed(seed)

    def answers(self, *, equal: bool = False, common: float | None = None) -> ScoreAnswers:
        scores = torch.randn(AGENTS, SAMPLES, *SHAPE, generator=self.random)
        divergences = torch.randn(AGENTS, SAMPLES, generator=self.random)
        if equal:
            scores, divergences = scores[:1].expand_as(scores), divergences[:1].expand_as(divergences)
        if common is not None:
            scores[..., 0] = common
        order = self.order
        return ScoreAnswers(scores[order].clone(), torch.ones(len(order), dtype=torch.bool), divergences[order].clone())

    def moves(self) -> list[SolverStep]:
        noise = torch.randn(SAMPLES, *SHAPE, generator=self.random) * 0.1
        reverse = SolverStep(0.5, 0.02, torch.full((SAMPLES, *SHAPE), 0.1), g2=1.5, q=1.5, noise=noise)
        return [reverse, replace(reverse, t=0.4, noise=-noise), replace(reverse, t=0.3, q=0.0, noise=None)]

    def run(self, **kind: Any) -> tuple[list[Tensor], list[ScoreAnswers], RuleState]:
        """The combined scores, the answers that they were made of, and the last state."""
        state, combined, seen = self.rule.init(SAMPLES), [], []
        for move in self.moves():
            answers = self.answers(**kind)
            state = self.rule.admit(state, answers)
            combined.append(self.rule.combine(state, answers, move))
            seen.append(answers)
            state = self.rule.advance(state, answers, move, move.displacement(combined[-1]))
            state = replace(state, begun=True)
        return combined, seen, state


def _held(order: Sequence[int], samples: int = SAMPLES) -> LabelCounts:
    counts = torch.tensor([[3 + k, 2 * k + 1, 9 - k] for k in order])
    return LabelCounts(tuple(f"a{place}" for place in range(len(order))), counts, torch.arange(samples) % 3)


def _check_scores(rule: Rule, settings: RuleSettings) -> None:
    assert rule.scores is not None  # noqa: S101
    order, turned = list(range(AGENTS)), [3, 0, 4, 2, 1]
    made, permuted = rule.scores.make(settings, _held(order)), rule.scores.make(settings, _held(turned))
    total = made.power(torch.zeros(AGENTS, dtype=torch.bool))
    _check_purity(rule, made)

    combined, seen, _ = _Walk(made, order).run(common=0.7)
    for score in combined:
        values = score[..., 0]
        what = f"weights sum to {total:g}: where all scores are .7, the combined one is {0.7 * total:g}"
        _require(_close(values, torch.full_like(values, 0.7 * total)), rule, what, values.flatten()[:4].tolist())

    combined, seen, _ = _Walk(made, order).run(equal=True)
    for score, answers in zip(combined, seen, strict=True):
        single = total * answers.scores[0]
        _require(_close(score, single), rule, f"{AGENTS} equal agents are one", float((score - single).abs().max()))

    (one, _, after), (other, _, turned_after) = _Walk(made, order).run(), _Walk(permuted, turned).run()
    for a, b in zip(one, other, strict=True):
        _require(_close(a, b), rule, "the order of the agents does not matter", float((a - b).abs().max()))
    same = _close(after.log_p[turned], turned_after.log_p)
    _require(same, rule, "log densities go with their agents", (after.log_p[turned] - turned_after.log_p).tolist())

    _check_absence(rule, made)


def _check_purity(rule: Rule, made: CombinationRule) -> None:
    walk = _Walk(made, range(AGENTS))
    answers, state, move = walk.answers(), made.init(SAMPLES), walk.moves()[0]
    before = answers.scores.clone()
    first, second = (made.combine(made.admit(state, answers), answers, move) for _ in range(2))
    _require(torch.equal(answers.scores, before), rule, "the answers are left as they are", "changed ones")
    _require(torch.equal(first, second), rule, "the same arguments give the same bits", "different ones")


def _check_absence(rule: Rule, made: CombinationRule) -> None:
    walk = _Walk(made, range(AGENTS))
    answers, move = walk.answers(), walk.moves()[0]
    answers.scores[1], answers.present[1] = torch.nan, False
    score = made.combine(made.admit(made.init(SAMPLES), answers), answers, move)
    _require(bool(torch.isfinite(score).all()), rule, "an agent that does not answer has no part", score.flatten()[:4])


def _check_updates(rule: Rule, settings: RuleSettings) -> None:
    assert rule.updates is not None  # noqa: S101
    least = rule.updates.least(settings)
    names = tuple(f"p{k}" for k in range(max(least, AGENTS)))
    random = torch.Generator().manual_seed(0)
    states = {name: {"w": torch.randn(1001, generator=random), "n": torch.tensor([3, 8])} for name in names}
    weights = {name: 1.0 + k for k, name in enumerate(names)}
    whole = reduce(settings, states, weights)["w"]

    shifted = {name: {"w": state["w"] + 2.0, "n": state["n"]} for name, state in states.items()}
    moved = reduce(settings, shifted, weights)["w"]
    what = "weights sum to 1: what is added to all contributions is added to the result"
    _require(_close(moved, whole + 2.0), rule, what, float((moved - whole).mean()))

    equal = reduce(settings, dict.fromkeys(names, states["p0"]), weights)
    _require(_close(equal["w"], states["p0"]["w"]), rule, f"{len(names)} equal contributions are one", equal["w"][:3])
    _require(torch.equal(equal["n"], states["p0"]["n"]), rule, "equal counters stay", equal["n"].tolist())

    turned = reduce(settings, dict(reversed(states.items())), dict(reversed(weights.items())))["w"]
    _require(torch.equal(turned, whole), rule, "the order of arrival does not matter, to the bit", "other bits")
    renamed = dict(zip(names, reversed(names), strict=True))
    other = reduce(
        settings, {renamed[k]: v for k, v in states.items()}, {renamed[k]: v for k, v in weights.items()}
    )["w"]  # fmt: skip
    _require(_close(other, whole), rule, "the names do not matter", float((other - whole).abs().max()))
    _check_stream(rule, settings, states, weights, whole)


def _check_stream(
    rule: Rule, settings: RuleSettings, states: dict[str, dict[str, Tensor]], weights: dict[str, float], whole: Tensor
) -> None:
    """A formula gives the same bits in any division into blocks; one that `compares` is told the distances."""
    assert rule.updates is not None  # noqa: S101
    names, rows = tuple(sorted(states)), [states[name]["w"] for name in sorted(states)]
    distances = None
    if rule.updates.compares:
        pairs = [(i, j) for i in range(len(names)) for j in range(i + 1, len(names))]
        distances = {(i, j): float((rows[i].double() - rows[j].double()).square().sum()) for i, j in pairs}
    formula = rule.updates.formula(settings, Contributions(names, weights, distances))
    for cuts in ([1001], [1, 7, 993], [500, 501]):
        parts = zip(*(torch.split(row, cuts) for row in rows), strict=True)
        found = torch.cat([compute(formula, part, [part[0]])[0] for part in parts])
        what = "a formula streams by chunk: every division gives the same bits (else the rule must say `compares`)"
        _require(torch.equal(found, whole), rule, what, f"others for chunks of {cuts}")
