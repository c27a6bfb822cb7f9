"""The table of method 3, measured: computes what can be computed, launches the rest with several seeds, and prints all.

    python tests/experiments/private_gan_table.py [--seeds 0 1 2] [--out runs/private] [--write]

Every trained row is a `fednet launch` of its own (processes, sockets and all), whose folder stays below --out; a launch
whose metrics exist is not repeated. Privacy noise is secret, so a private row measured again is another draw; the seed
decides everything else. `--write` puts the table, and a picture, into the method's README.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any
from unittest import mock

import torch
from matplotlib.figure import Figure
from matplotlib.image import imread
from private_gan_sums import Row
from private_gan_sums import rows as computed
from tables import Launch, launched, write

from fednet.api import NullProgress, SiteContext
from fednet.federated import local_network as local
from fednet.federated.aggregation import aggregate
from fednet.federated.local_network import local_network
from fednet.methods.regression.config import RegressionConfig as LineConfig
from fednet.methods.regression.job import run_job as run_regression
from fednet.methods.regression.site import RegressionSite

README = Path("fednet/methods/private_gan/README.md")


AUDITED = "disclose={audit: {pictures: 2}}"
FEW = "{kind: matrix, matrix: [[" + ", ".join(["0.06"] * 10) + "]]}"
OVERFIT = Launch(
    "overfit",
    "private-gan",
    (
        "nodes=1",
        "privacy={level: none}",
        f"partition={FEW}",
        "train={steps: 100, rate: 0.5, critic_steps: 1}",
        "rounds=30",
        "report.every=10",
        AUDITED,
    ),
)
"""The same network and the same attack: one site, 64 pictures, no noise, and far too many steps."""

CLASSIFIER = Launch("classifier", "private-gan", ("rounds=0", "classifier={rounds: 30}", "report.every=10"))
PRIVATE, LINE = Launch("private", "private-gan", (AUDITED,)), Launch("regression", "regression")
HALF = Launch("half", "private-gan", ("disclose={audit: {pictures: 2, held_out: 0.5}}",))
"""As private, and every site trains on half of its pictures: with the other half as non-members AUCs are sharper."""
SECURE = Launch("secure", "private-gan", ("federation={secure: {}}", "rounds=20"))
LAUNCHES = (PRIVATE, HALF, OVERFIT, CLASSIFIER, SECURE, LINE)

HEAD = (
    "Seeds {seeds}; mean (each seed). Digits, 8 x 8: three sites of 359 pictures, {kind}, sigma {noise:g}, clip "
    "{clip:g}, q {rate:g}, {rounds} rounds of {steps} steps; 300 samples, a judge that no site knows, real floor "
    "{floor:.1f}. Largest AUC of all sites; non-members are pictures that each site holds out of its own, {count} and "
    "as many members (overfitted: {few}). Privacy noise is fresh in every launch."
)

Results = dict[tuple[str, int], dict[str, Any]]


def zeros(out: Path) -> float:
    """What five sites of the regression predict when every aggregate is replaced by zeros."""
    config, whole = LineConfig(), aggregate
    agents = {
        f"a{k + 1}": RegressionSite(config, SiteContext(f"a{k + 1}", k, 5, 0, "cpu", out / "zeros")) for k in range(5)
    }
    capabilities = {name: agent.prepare(NullProgress()) for name, agent in agents.items()}
    zeroed = lambda *given: {name: torch.zeros_like(part) for name, part in whole(*given).items()}  # noqa: E731
    with mock.patch.object(local, "aggregate", zeroed):
        run_regression(config, local_network(agents, capabilities), out / "zeros", 0, NullProgress())
    found = json.loads((out / "zeros" / "metrics.json").read_text())["federated"]
    return float(next(iter(found.values())))


def better(metrics: dict[str, Any]) -> float:
    """How many times the samples' Frechet distance is below that of the untrained generator."""
    frames = metrics["frames"]
    return float(frames[0]["frechet"] / frames[-1]["frechet"])


def attack(metrics: dict[str, Any], kind: str) -> float:
    """The largest AUC of an attack over the sites."""
    return max(float(one[kind]) for one in metrics["audit"].values())


def audited(metrics: dict[str, Any]) -> int:
    """The fewest non-members of a site."""
    return min(int(one["count"]) for one in metrics["audit"].values())


def epsilon(metrics: dict[str, Any], accountant: str) -> float:
    """The largest epsilon over the sites."""
    return max(float(card[f"epsilon_{accountant}"]) for card in metrics["privacy"].values())


def trained(found: Results, seeds: list[int], out: Path) -> Iterator[Row]:
    """The rows of the launches."""

    def of(launch: Launch) -> list[dict[str, Any]]:
        return [found[launch.name, seed] for seed in seeds if (launch.name, seed) in found]

    def each(values: list[float], digits: int = 3) -> str:
        if not values:
            return "not measured"
        fewer = "" if len(values) == len(seeds) else f"; {len(values)} of {len(seeds)} seeds"
        return f"{mean(values):.{digits}f} ({', '.join(f'{value:.{digits}f}' for value in values)}{fewer})"

    private, half, overfit, sealed, classifiers, lines = map(of, (PRIVATE, HALF, OVERFIT, SECURE, CLASSIFIER, LINE))
    spent = "/".join(f"{epsilon(private[0], kind):.2f}" for kind in ("rdp", "prv")) if private else "?"
    yield (
        f"DP-GAN, epsilon {spent} (RDP/PRV): Frechet distance, times better than untrained",
        each([better(one) for one in private], 2),
        "epsilon never recorded",
        ">= 2",
    )
    yield "... Frechet distance", each([one["frames"][-1]["frechet"] for one in private], 1), "-", "-"
    for kind, name in (("loss", "loss threshold"), ("nearest", "nearest sample")):
        yield f"... membership AUC, {name}", each([attack(one, kind) for one in private]), "-", "<= .55"
    count = audited(half[0]) if half else "?"
    for kind, name in (("loss", "loss threshold"), ("nearest", "nearest sample")):
        what = f"... trained on half of the pictures, {count} non-members a site: membership AUC, {name}"
        yield what, each([attack(one, kind) for one in half]), "-", "<= .55"
    reach = ">= .7"
    yield (
        "the same network, not private, overfitted on 64 pictures: AUC, loss threshold",
        each([attack(one, "loss") for one in overfit]),
        "-",
        reach,
    )
    yield "... AUC, nearest sample", each([attack(one, "nearest") for one in overfit]), "-", "-"
    spent = "/".join(f"{epsilon(sealed[0], kind):.2f}" for kind in ("rdp", "prv")) if sealed else "?"
    yield (
        f"DP-GAN behind a secure sum, 20 rounds, epsilon {spent}: times better than untrained",
        each([better(one) for one in sealed], 2),
        "never wired",
        ">= 2",
    )
    spent = "/".join(f"{epsilon(classifiers[0], kind):.2f}" for kind in ("rdp", "prv")) if classifiers else "?"
    yield (
        f"DP classifier, epsilon {spent}: accuracy",
        each([one["accuracy"] for one in classifiers]),
        (".589 (CIFAR-10, target epsilon 50)"),
        "-",
    )
    errors = [max(abs(value - one["truth"]) for value in one["federated"].values()) for one in lines]
    same = all(len(set(one["federated"].values())) == 1 for one in lines)
    yield (
        "regression, 5 clients: largest error at 5; all the same",
        f"{each(errors, 4)}; {same}",
        (".3 (local training)"),
        "<= .05; True",
    )
    alone = [min(abs(value - one["truth"]) for value in one["alone"].values()) for one in lines]
    yield "... alone, as many steps: smallest error", each(alone, 2), "-", "> .05"
    yield "... every aggregate replaced by zeros: prediction at 5", f"{zeros(out):g}", "unchanged", "not 10"


def table(found: Results, seeds: list[int], out: Path) -> str:
    """The table as Markdown."""
    first, overfit = (found[launch.name, seeds[0]] for launch in (PRIVATE, OVERFIT))
    card, frames = next(iter(first["privacy"].values())), first["frames"]
    steps = next(iter(first["rounds"][0]["values"].values()))["steps"]
    head = HEAD.format(
        seeds=", ".join(map(str, seeds)), kind="dp-dcgan", rounds=len(first["rounds"]), steps=round(steps),
        floor=frames[-1]["floor"], count=audited(first), few=audited(overfit),
        **{key: card[key] for key in ("noise", "clip", "rate")},
    )  # fmt: skip
    lines = [head, "", "| what | measured | source | must reach |", "|---|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in (*computed(_say), *trained(found, seeds, out))]
    return "\n".join(lines)


def picture(folder: Path) -> None:
    """The README's picture: grids of samples of one private launch, from untrained to the end."""
    there = sorted((folder / "samples").glob("round-*.png"))
    chosen = [there[round(part * (len(there) - 1))] for part in (0, 0.1, 0.3, 1)]
    figure = Figure(figsize=(9, 4.4), dpi=110, layout="constrained")
    for axes, path in zip(figure.subplots(2, 2).flat, chosen, strict=True):
        axes.imshow(imread(path), interpolation="nearest", cmap="gray")
        number = int(path.stem.removeprefix("round-"))
        axes.set_title(f"after round {number}" if number else "untrained")
        axes.axis("off")
    figure.savefig(README.with_name("result.png"))


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201 - what the command is doing


def main() -> None:
    """Measures what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/private"))
    parser.add_argument("--present", action="store_true", help="launch nothing: a table of what is there")
    parser.add_argument("--write", action="store_true", help=f"also write it and a picture beside {README}")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = {
        (launch.name, seed): launched(launch, seed, arguments.out)
        for seed in arguments.seeds
        for launch in LAUNCHES
        if not arguments.present or (arguments.out / f"{launch.name}-{seed}" / "metrics.json").exists()
    }
    text = table(found, arguments.seeds, arguments.out)
    print(text)  # noqa: T201 - the command's result
    if arguments.write:
        write(README, text)
        picture(arguments.out / f"{PRIVATE.name}-{arguments.seeds[0]}")


if __name__ == "__main__":
    main()
