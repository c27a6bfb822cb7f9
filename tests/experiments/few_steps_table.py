"""How few steps do: every rule with every solver for few steps, on agents in closed form.

    python tests/experiments/few_steps_table.py [--seeds 0 1 2] [--out runs/few-steps] [--present] [--write]

The ten agents are those of `sparse_table.py`. Where a rule has a law, the union of the agents' data, the error is the
sliced Wasserstein-1 distance between what is drawn and that law, whose floor is that of as many exact samples. Of every
other rule only its own flow is known: the error is the root mean squared distance to where its own flow ends from the
same noise, by Heun in many steps. Rules that resample need noise and are refused by these solvers. Every cell is kept
below --out and not measured again; `--present` measures nothing, `--write` puts the tables into the method's README.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import torch
from sparse_table import README, SHARES, Agents, cell, kept
from tables import write
from torch import Tensor

from fednet.diffusion.combination import LabelCounts
from fednet.diffusion.sampler_config import DPMSolver, EulerMaruyama, Heun, SamplerConfig
from fednet.diffusion.sampling import sample
from fednet.methods.score_inference.rule_settings import Weighted
from fednet.methods.score_inference.rules import make_rule
from fednet.rules.contract import RuleSettings
from fednet.seeds import generator

STEPS = (5, 10, 20, 50)
COUNT = 3000
FLOW_COUNT = 500
"""Samples whose end is compared with that of the rule's own flow."""
EXACT = 40 * COUNT
"""Samples that stand for the law."""
DIRECTIONS = 32
REFERENCE = Heun(steps=400)
SOLVERS: dict[str, Callable[[int], SamplerConfig]] = {
    "DPM-Solver++ 2M": lambda steps: DPMSolver(steps=steps),
    "DPM-Solver++ 2M, Karras' schedule": lambda steps: DPMSolver(steps=steps, spacing="karras"),
    "Heun, two evaluations a step": lambda steps: Heun(steps=steps, spacing="log-snr"),
    "Heun (EDM), Karras' schedule, two evaluations a step": lambda steps: Heun(steps=steps),
    "reverse SDE (Euler-Maruyama)": lambda steps: EulerMaruyama(steps=steps),
}
WITH_LAW = {
    "mixture": RuleSettings(kind="mixture"),
    "mixture, top_k 5": Weighted(kind="mixture", top_k=5),
    "label-count, each label at one site": RuleSettings(kind="label-count"),
}
OWN_FLOW = ("mean", "data-size", "median", "consensus")


def counts_of(settings: RuleSettings, count: int, seed: int) -> LabelCounts:
    """What the agents hold: for `label-count` a label each, which samples have in the agents' shares."""
    names = tuple(f"a{k}" for k in range(len(SHARES)))
    if settings.kind != "label-count":
        return LabelCounts(names, SHARES[:, None], None)
    labels = torch.multinomial(SHARES, count, replacement=True, generator=generator(seed, "labels"))
    return LabelCounts(names, SHARES.diag(), labels)


def drawn(settings: RuleSettings, sampler: SamplerConfig, count: int, seed: int) -> Tensor:
    """Samples (count, 2)."""
    agents, rule = Agents(), make_rule(settings, counts_of(settings, count, seed))
    latent = agents.sde.prior((count, 2), generator(seed, "latent"))
    return sample(sampler, agents, rule, agents.sde, latent, random=generator(seed, "noise")).x


def exact(count: int, seed: int) -> Tensor:
    """Samples of the union of the agents' data (count, 2)."""
    agents, random = Agents(), generator(seed, "exact")
    which = torch.multinomial(SHARES, count, replacement=True, generator=random)
    part = torch.randint(2, (count,), generator=random)
    spread = agents.variances[which, part].sqrt()[:, None]
    return agents.means[which, part] + spread * torch.randn(count, 2, generator=random)


@cache
def law() -> Tensor:
    """Its sorted projections, thinned to COUNT: (DIRECTIONS, COUNT)."""
    every = projections(exact(EXACT, 99))
    return every.view(DIRECTIONS, COUNT, -1).mean(2)


def projections(x: Tensor) -> Tensor:
    """Sorted projections on fixed directions, (DIRECTIONS, n)."""
    angles = torch.arange(DIRECTIONS) * (math.pi / DIRECTIONS)
    return (torch.stack([angles.cos(), angles.sin()], 1) @ x.T).sort(1).values


def law_error(x: Tensor) -> dict[str, float]:
    """The sliced Wasserstein-1 distance to the law."""
    return {"error": float((projections(x) - law()).abs().mean())}


def against_law(rule: str, solver: str, steps: int, seed: int) -> dict[str, float]:
    """A cell of the first table."""
    return law_error(drawn(WITH_LAW[rule], SOLVERS[solver](steps), COUNT, seed))


@cache
def flow_end(rule: str, seed: int) -> Tensor:
    """Where a rule's own flow ends from the noise of a seed."""
    return drawn(RuleSettings(kind=rule), REFERENCE, FLOW_COUNT, seed)


def against_flow(rule: str, solver: str, steps: int, seed: int) -> dict[str, float]:
    """A cell of the second table."""
    found = drawn(RuleSettings(kind=rule), SOLVERS[solver](steps), FLOW_COUNT, seed)
    return {"error": float((found - flow_end(rule, seed)).square().sum(1).mean().sqrt())}


def table(what: str, rules: tuple[str, ...], solvers: tuple[str, ...], arguments: argparse.Namespace) -> list[str]:
    """A table's lines: a row a rule and solver, a column a number of steps."""
    measure = {"law": against_law, "flow": against_flow}[what]
    lines = [f"| rule | solver | {' | '.join(f'{steps} steps' for steps in STEPS)} |", "|---" * (len(STEPS) + 2) + "|"]
    for rule in rules:
        for solver in solvers:
            cells = []
            for steps in STEPS:
                name = f"{rule}-{list(SOLVERS).index(solver)}-{steps}".replace(" ", "-").replace(",", "")
                cells.append(
                    cell(
                        [
                            kept(
                                arguments.out / what / f"{name}-{seed}.json",
                                partial(measure, rule, solver, steps, seed),
                                present=arguments.present,
                            )
                            for seed in arguments.seeds
                        ],
                        "error",
                    )
                )
            lines.append(f"| {rule} | {solver} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Measures what is missing and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/few-steps"))
    parser.add_argument("--present", action="store_true", help="measure nothing: tables of what is there")
    parser.add_argument("--write", action="store_true", help=f"also write them into {README}")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    floor = cell([law_error(exact(COUNT, seed)) for seed in arguments.seeds], "error")
    deterministic = tuple(name for name in SOLVERS if not name.startswith("reverse"))
    head = f"Against the law, {COUNT} samples, seeds {', '.join(map(str, arguments.seeds))}: mean (range)."
    lines = [
        f"{head} As many exact samples: {floor}.",
        "",
        *table("law", tuple(WITH_LAW), tuple(SOLVERS), arguments),
        "",
        f"Against the end of the rule's own flow from the same noise, Heun in {REFERENCE.steps} steps.",
        "",
        *table("flow", OWN_FLOW, deterministic, arguments),
        "",
    ]
    text = "\n".join(lines)
    print(text)  # noqa: T201 - the command's result
    if arguments.write:
        write(README, text, "few-steps")


if __name__ == "__main__":
    main()
