"""What asking k of ten sites costs in accuracy and saves in traffic: agents in closed form.

    python tests/experiments/sparse_table.py [--seeds 0 1 2] [--out runs/sparse] [--present] [--write]

Ten agents in the plane, each a mixture of two normal densities, with unequal shares. Total variation is between
the shares of the twenty components in what is drawn, each sample counted by its exact posterior, and their true ones;
width is the mean squared distance from the component's mean over its variance, 1 where all is right. Every cell is kept
below --out and not measured again; `--present` measures nothing, `--write` puts the tables into the method's README.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from tables import write
from torch import Tensor

from fednet.diffusion.combination import CombinationRule, LabelCounts, RuleState, ScoreAnswers, SolverStep
from fednet.diffusion.sampler_config import DPMSolver, EulerMaruyama, SamplerConfig
from fednet.diffusion.sampling import sample
from fednet.diffusion.sde import VP
from fednet.diffusion.sparse import drawn
from fednet.methods.score_inference.rule_settings import Weighted
from fednet.methods.score_inference.rules import make_rule
from fednet.seeds import generator

README = Path("fednet/methods/score_inference/README.md")
TOP_KS = {"drawn": (10, 5, 3, 2, 1), "by chance": (5, 3, 2, 1)}
"""The rows of each way to choose; those of the others have 2 and 1."""
SHARES = torch.tensor([5.0, 3, 2, 4, 1, 2, 3, 6, 2, 2])
SAMPLERS: dict[str, SamplerConfig] = {
    "reverse SDE, 200 steps": EulerMaruyama(steps=200),
    "DPM-Solver++, 20 steps": DPMSolver(steps=20),
}
COUNT = 2000


@dataclass
class Agents:
    """Ten agents in closed form (a `SparseScoreFunction`), and how many samples were sent to them."""

    sde: VP = field(default_factory=VP)
    means: Tensor = field(default_factory=lambda: 2 * torch.randn(10, 2, 2, generator=generator(7, "means")))
    variances: Tensor = field(default_factory=lambda: 0.05 + 0.1 * torch.rand(10, 2, generator=generator(7, "spread")))
    sent: int = 0

    def parts(self, x: Tensor, t: float) -> tuple[Tensor, Tensor, Tensor]:
        """Log density (agents, parts, n), score (..., 2) and variance of every part."""
        alpha, std = (float(v) for v in self.sde.marginal(torch.tensor(t, dtype=torch.float64)))
        variance = (alpha**2 * self.variances + std**2)[:, :, None]
        away = x - alpha * self.means[:, :, None]
        log_p = -away.square().sum(3) / (2 * variance) - (2 * math.pi * variance).log() - math.log(2)
        return log_p, -away / variance[..., None], variance

    def __call__(self, x: Tensor, t: float, divergence: bool = False, asked: Tensor | None = None) -> ScoreAnswers:
        """As `FederatedScore`."""
        wanted = torch.ones(10, len(x), dtype=torch.bool) if asked is None else asked
        self.sent += int(wanted.sum())
        log_p, scores, variance = self.parts(x, t)
        shares = torch.softmax(log_p, 1)
        score = (shares[..., None] * scores).sum(1)
        second = (shares * (scores.square().sum(3) - 2 / variance)).sum(1)
        divergences = torch.where(wanted, second - score.square().sum(2), 0.0) if divergence else None
        return ScoreAnswers(torch.where(wanted[..., None], score, 0.0), wanted.any(1), divergences)

    def responsibilities(self, x: Tensor, t: float) -> Tensor:
        """The exact ones, (agents, n)."""
        return torch.softmax(torch.logsumexp(self.parts(x, t)[0], 1) + SHARES.log()[:, None], 0)


def largest(weights: Tensor, top_k: int, evaluation: int) -> Tensor:
    """The k largest weights."""
    return torch.zeros_like(weights, dtype=torch.bool).scatter_(0, weights.topk(top_k, 0).indices, value=True)


def by_chance(weights: Tensor, top_k: int, evaluation: int) -> Tensor:
    """Any k, in turn: the floor."""
    return drawn(torch.ones_like(weights), top_k, evaluation)


def without_others(rule: CombinationRule, top_k: int, weights_of: Callable[[RuleState], Tensor]) -> CombinationRule:
    """The rule with the weights of those asked alone, renormalised."""

    def combine(state: RuleState, answers: ScoreAnswers, move: SolverStep) -> Tensor:
        weights = weights_of(state)
        kept = torch.where(largest(weights, top_k, 0), weights, 0.0)
        return ((kept / kept.sum(0))[..., None] * answers.scores).sum(0)

    return replace(rule, combine=combine)


def rule_of(kind: str, top_k: int, agents: Agents) -> tuple[CombinationRule, Any]:
    """The rule of a row and what it asks."""
    counts = LabelCounts(tuple(f"a{k}" for k in range(10)), SHARES[:, None], None)
    rule = make_rule(Weighted(kind="mixture", top_k=None if top_k == 10 else top_k), counts)
    if top_k == 10:
        return rule, agents
    assert rule.sparse is not None
    if kind == "by chance":
        return replace(rule, sparse=replace(rule.sparse, choose=by_chance)), agents
    if kind == "largest":
        return replace(rule, sparse=replace(rule.sparse, choose=largest)), agents
    if kind == "largest alone":
        rule = replace(rule, sparse=replace(rule.sparse, choose=largest))
        shares = (SHARES / SHARES.sum()).log()[:, None]
        return without_others(rule, top_k, lambda state: torch.softmax(shares + state.log_p, 0)), agents
    if kind == "exact router":
        return make_rule(Weighted(kind="mean"), LabelCounts(("all",), torch.ones(1, 1), None)), routed(agents, top_k)
    return rule, agents


def routed(agents: Agents, top_k: int) -> Any:
    """One agent that is the k of the largest exact responsibilities, renormalised."""

    def query(x: Tensor, t: float, divergence: bool = False) -> ScoreAnswers:
        weights = agents.responsibilities(x, t)
        asked = largest(weights, top_k, 0)
        answers, kept = agents(x, t, divergence, asked), torch.where(asked, weights, 0.0)
        score = ((kept / kept.sum(0))[..., None] * answers.scores).sum(0)
        return ScoreAnswers(score[None], torch.ones(1, dtype=torch.bool))

    return query


KINDS = {
    "drawn": "drawn by responsibility, others predicted (`top_k`)",
    "largest": "the largest responsibilities, others predicted",
    "by chance": "by chance, others predicted (floor)",
    "largest alone": "the largest, others left out",
    "exact router": "the largest of an exact router, others left out",
}


def analytic(kind: str, top_k: int, sampler: str, seed: int) -> dict[str, float]:
    """One cell: total variation, width, and samples sent by step and sample."""
    agents = Agents()
    rule, query = rule_of(kind, top_k, agents)
    latent, config = agents.sde.prior((COUNT, 2), generator(seed, "latent")), SAMPLERS[sampler]
    found = sample(config, query, rule, agents.sde, latent, random=generator(seed, "noise"))
    sent = agents.sent / (COUNT * found.evaluations)
    log_p = agents.parts(found.x, agents.sde.eps)[0] + SHARES.log()[:, None, None]
    posterior = torch.softmax(log_p.flatten(0, 1), 0)
    true = (SHARES / SHARES.sum() / 2).repeat_interleave(2)
    away = (found.x - agents.means[:, :, None]).square().sum(3) / (2 * agents.variances[:, :, None])
    width = float((posterior * away.flatten(0, 1)).sum(0).mean())
    return {"variation": float((posterior.mean(1) - true).abs().sum() / 2), "width": width, "sent": sent}


def kept(path: Path, make: Callable[[], dict[str, float]], *, present: bool) -> dict[str, float]:
    """A cell, measured now if it is not there; empty where nothing is to be measured."""
    if not path.exists():
        if present:
            return {}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(make()))
    found: dict[str, float] = json.loads(path.read_text())
    return found


def cell(found: list[dict[str, float]], key: str, digits: int = 3) -> str:
    """The mean over the seeds, and the range."""
    values = [one[key] for one in found if one]
    if not values:
        return "not measured"
    shown = f"{mean(values):.{digits}f}"
    if len(values) < len(found):
        return f"{shown} ({len(values)} of {len(found)} seeds)"
    return shown if min(values) == max(values) else f"{shown} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def analytic_tables(seeds: list[int], out: Path, *, present: bool) -> str:
    """The exact part as Markdown."""
    lines = []
    for sampler in SAMPLERS:
        lines += [f"{sampler}, {COUNT} samples, seeds {', '.join(map(str, seeds))}: mean (range).", ""]
        lines += [
            "| who is asked | k of 10 | sent, samples a step | total variation | width |",
            "|---|---|---|---|---|",
        ]
        for kind, title in KINDS.items():
            for top_k in TOP_KS.get(kind, (2, 1)):
                name = f"{sampler.split(',')[0]}-{kind}-{top_k}".replace(" ", "-")
                found = [
                    kept(
                        out / "exact" / f"{name}-{seed}.json",
                        lambda kind=kind, k=top_k, sampler=sampler, seed=seed: analytic(kind, k, sampler, seed),  # type: ignore[misc]
                        present=present,
                    )
                    for seed in seeds
                ]
                who = "all" if top_k == 10 else title
                values = (cell(found, "sent", 2), cell(found, "variation"), cell(found, "width"))
                lines.append(f"| {who} | {top_k} | {' | '.join(values)} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Measures what is missing and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/sparse"))
    parser.add_argument("--present", action="store_true", help="measure nothing: tables of what is there")
    parser.add_argument("--write", action="store_true", help=f"also write them into {README}")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    text = analytic_tables(arguments.seeds, arguments.out, present=arguments.present)
    print(text)  # noqa: T201 - the command's result
    if arguments.write:
        write(README, text, "sparse")


if __name__ == "__main__":
    main()
