"""The table of method 1, measured: launches every regime on digits with several seeds and prints what came out.

    python tests/experiments/score_inference_table.py [--seeds 0 1 2] [--out runs/table] [--write]

Every row is a `fednet launch` of its own (processes, sockets and all), whose folder stays below --out; a launch
whose metrics exist is not repeated. `--write` puts the table into the method's README.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.image import imread
from safetensors.torch import load_file
from tables import Launch, launched, write

from fednet.api import NullProgress, SiteContext
from fednet.diffusion.combination import LabelCounts, ScoreAnswers
from fednet.diffusion.sampler_config import EulerMaruyama
from fednet.diffusion.sampling import sample
from fednet.diffusion.sde import VP
from fednet.federated.local_network import local_ask
from fednet.methods.score_inference.config import ScoreInferenceConfig
from fednet.methods.score_inference.messages import read_score_capabilities
from fednet.methods.score_inference.rules import make_rule
from fednet.methods.score_inference.sampling import sample_arm
from fednet.methods.score_inference.site import ScoreInferenceSite
from fednet.rules.contract import RuleSettings
from fednet.seeds import generator
from launch.config.schema import load_config

README = Path("fednet/methods/score_inference/README.md")
CONTROL_STEPS = 4039
"""What 60 epochs are for one agent with all 1077 digits in batches of 16: the budget of "equal steps"."""

TOLERANCES = "{alone: {rule: mean}, tight: {rule: mean, sampler: {kind: ode, rtol: 1.0e-5, atol: 1.0e-5}}}"
STEPS = f"{{steps: {CONTROL_STEPS}}}"


LABELS = Launch("labels", "score-inference-labels")

LAUNCHES = (
    Launch("control", "control", (f"arms={TOLERANCES}",)),
    Launch("hom-epochs", "homogeneous"),
    Launch("het-epochs", "heterogeneous"),
    LABELS,
    Launch("unlabelled", "score-inference"),
    Launch("hom-steps", "homogeneous", (f"train={STEPS}",)),
    Launch("het-steps", "heterogeneous", (f"train={STEPS}",)),
)

HEAD = (
    "Seeds {seeds}; mean (each seed). Real test digits: accuracy {accuracy:.3f}, Inception Score {score:.2f}. "
    "Conditional rows: VP, probability-flow ODE, dopri5 1e-3, denoised; unlabelled rows: reverse SDE, 200 "
    "Euler-Maruyama steps; 300 samples each, 60 epochs in batches of 16 (equal steps: {steps})."
)

Results = dict[tuple[str, int], dict[str, Any]]


def analytic(rule: str, seed: int) -> float:
    """Variance of 20,000 samples from N(-2,1) and N(+2,1) under a rule: 1 for the product, 5 for the union."""
    sde, centres = VP(), torch.tensor([-2.0, 2.0])

    def query(x: torch.Tensor, t: float, divergence: bool = False) -> ScoreAnswers:
        alpha, std = sde.marginal(torch.tensor(t, dtype=torch.float64))
        variance = alpha**2 + std**2
        scores = (-(x[None] - (alpha * centres).view(2, 1, 1)) / variance).float()
        return ScoreAnswers(scores, torch.ones(2, dtype=torch.bool))

    label_counts = LabelCounts(("a", "b"), torch.ones(2, 1), None)
    latent = sde.prior((20_000, 1), generator(seed, "latent"))
    drawn = sample(
        EulerMaruyama(steps=200),
        query,
        make_rule(RuleSettings(kind=rule), label_counts),
        sde,
        latent,
        random=generator(seed, "noise"),
    )
    return float(drawn.x.var())


def difference(launch: Launch, seed: int, out: Path) -> float:
    """Largest absolute difference between what the bus drew and the same computation in this process."""
    folder = out / f"{launch.name}-{seed}"
    loaded = load_config(str(folder / "config.yaml"), [])
    method = loaded.method
    assert isinstance(method, ScoreInferenceConfig)
    torch.set_num_threads(1)
    names = [f"a{index + 1}" for index in range(len(loaded.cluster.entries))]
    sites = [SiteContext(name, index, len(names), seed, "cpu", folder) for index, name in enumerate(names)]
    agents = {site.name: ScoreInferenceSite(method, site) for site in sites}
    capabilities = read_score_capabilities({name: agent.prepare(NullProgress()) for name, agent in agents.items()})
    ask, largest = local_ask(agents), 0.0
    for name, arm in method.arms.items():
        again = sample_arm(
            arm,
            method.sampler_of(name),
            method.samples,
            name=name,
            ask=ask,
            capabilities=capabilities,
            seed=seed,
            progress=NullProgress(),
        )
        over_bus = load_file(folder / "samples" / name / "samples.safetensors")["images"]
        largest = max(largest, float((again.images - over_bus).abs().max()))
    return largest


def rows(found: Results, seeds: list[int], out: Path) -> Iterator[tuple[str, str, str, str]]:
    """(what, measured over the seeds, the source's or prototype's, must reach)."""

    def of(launch: str, arm: str, key: str) -> list[float]:
        there = [found[launch, seed] for seed in seeds if (launch, seed) in found]
        return [metrics["arms"][arm]["evaluation"][key] for metrics in there]

    def each(values: list[float], digits: int = 3) -> str:
        if not values:
            return "not measured"
        fewer = "" if len(values) == len(seeds) else f"; {len(values)} of {len(seeds)} seeds"
        return f"{mean(values):.{digits}f} ({', '.join(f'{value:.{digits}f}' for value in values)}{fewer})"

    def ratio(arm: str) -> list[float]:
        return [a / b for a, b in zip(of("unlabelled", arm, "frechet"), of("unlabelled", arm, "floor"), strict=True)]

    def nfe(arm: str) -> str:
        return "/".join(str(found["control", seed]["arms"][arm]["queries"]) for seed in seeds)

    yield "N(-2,1) and N(+2,1): variance by mean", each([analytic("mean", s) for s in seeds]), "theory 1", "1 ± .1"
    yield "... by mixture", each([analytic("mixture", s) for s in seeds]), "theory 5", "5 ± .3"
    yield "control: label accuracy", each(of("control", "alone", "accuracy")), ".976", ">= .93"
    yield "control: Inception Score", each(of("control", "alone", "inception_score"), 2), "9.58", ">= 9.0"
    for budget in ("epochs", "steps"):
        for regime, said in (
            ("hom", {"epochs": ".960", "steps": ".994"}),
            ("het", {"epochs": ".946", "steps": ".990"}),
        ):
            bound = ">= .90" if budget == "epochs" else ">= .95"
            values = of(f"{regime}-{budget}", "mean", "accuracy")
            yield f"5 agents, mean, equal {budget}, {regime}.: accuracy", each(values), said[budget], bound
    yield "disjoint labels, mean: accuracy", each(of("labels", "mean", "accuracy")), ".172", "<= .35"
    yield "disjoint labels, label-count: accuracy", each(of("labels", "label-count", "accuracy")), ".998", ">= .93"
    yield "disjoint, unlabelled, mean: Frechet / floor", each(ratio("mean"), 2), "6.5", "beside it"
    yield "disjoint, unlabelled, mixture: Frechet / floor", each(ratio("mixture"), 2), "1.14", "<= 1.6"
    yield f"dopri5 1e-3 (NFE {nfe('alone')}): accuracy", each(of("control", "alone", "accuracy")), ".964, NFE 68", "-"
    yield (
        f"dopri5 1e-5 (NFE {nfe('tight')}): accuracy",
        each(of("control", "tight", "accuracy")),
        ".964, NFE 122",
        "same ± .02",
    )
    largest = [difference(LABELS, seed, out) for seed in seeds[:1]]
    yield (
        "disjoint labels, both arms, first seed, bus against one process: largest difference",
        ", ".join(f"{value:.1e}" for value in largest),
        "-",
        "<= 1e-5",
    )


def table(found: Results, seeds: list[int], out: Path) -> str:
    """The table as Markdown."""
    real = found["control", seeds[0]]["real"]
    accuracy, score = real["accuracy"], real["inception_score"]
    lines = [
        HEAD.format(seeds=", ".join(map(str, seeds)), accuracy=accuracy, score=score, steps=CONTROL_STEPS),
        "",
        "| what | measured | prototype | must reach |",
        "|---|---|---|---|",
    ]
    lines += [f"| {' | '.join(row)} |" for row in rows(found, seeds, out)]
    return "\n".join(lines)


def picture(folder: Path) -> None:
    """The README's picture: real digits and both unlabelled arms of one launch, side by side."""
    figure = Figure(figsize=(9, 3.3), dpi=110, layout="constrained")
    for axes, name in zip(figure.subplots(1, 3), ("real", "mean", "mixture"), strict=True):
        axes.imshow(imread(folder / "samples" / name / "grid.png"), interpolation="nearest", cmap="gray")
        axes.set_title("real digits" if name == "real" else name)
        axes.axis("off")
    figure.savefig(README.with_name("result.png"))


def main() -> None:
    """Measures what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/table"))
    parser.add_argument("--present", action="store_true", help="launch nothing: a table of what is there")
    parser.add_argument("--write", action="store_true", help=f"also write it and a picture beside {README}")
    arguments = parser.parse_args()
    found = {
        (launch.name, seed): launched(launch, seed, arguments.out)
        for launch in LAUNCHES
        for seed in arguments.seeds
        if not arguments.present or (arguments.out / f"{launch.name}-{seed}" / "metrics.json").exists()
    }
    text = table(found, arguments.seeds, arguments.out)
    print(text)  # noqa: T201 - the command's result
    if arguments.write:
        write(README, text)
        picture(arguments.out / f"unlabelled-{arguments.seeds[0]}")


if __name__ == "__main__":
    main()
