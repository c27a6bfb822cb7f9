"""The tables of the balancing GAN, measured: five seeds, the source's comparison of configurations, and CIFAR-10.

    python tests/experiments/fedbagan_table.py [--seeds 10 11 12 13 14] [--out runs/fedbagan] [--write]
    python tests/experiments/fedbagan_table.py --cifar FOLDER ...         # the folder above cifar-10-batches-py

Every run is the example `fedbagan` with what is set over it, held within this process on one thread, which gives the
same bytes as over the bus; the first seed is also launched (processes, sockets and all), and the table says how far the
two are apart. A run whose metrics are below --out is not repeated. A seed takes some ten minutes on a core, the
comparison half an hour, CIFAR-10 half an hour. `--write` puts the tables and the pictures into the method's README.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from shutil import copyfile
from statistics import mean
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.image import imread
from tables import Launch, launched, write

from fednet.api import NullProgress, SiteContext
from fednet.federated.local_network import local_network
from fednet.methods.fedbagan.job import run_job
from fednet.methods.fedbagan.results import BALANCING, BASELINE, DECODER, LAST, REAL
from fednet.methods.fedbagan.site import FedBaganSite
from fednet.reporting.animation import ANIMATION
from launch.config.schema import load_config

README = Path("fednet/methods/fedbagan/README.md")

MAIN = Launch("main", "fedbagan")
LONGER = Launch("longer", "fedbagan", ("autoencoder.rounds=56", "gan.rounds=0", "baseline=false"))
"""The decoder alone with as many batches as both stages: 40 * 20 + 40 * 8 = 56 * 20."""
OVER_THE_BUS = Launch("launched", "fedbagan")
ROUNDS = (60, 100, 150)
SGD = ("gan.optimiser=sgd", "gan.generator_lr=0.02", "gan.discriminator_lr=0.05")
COMPARED = {
    (optimiser, loss): Launch(
        f"{optimiser}-{loss}",
        "fedbagan",
        (f"gan.loss={loss}", f"gan.rounds={max(ROUNDS)}", "baseline=false", *(SGD if optimiser == "sgd" else ())),
    )
    for optimiser in ("adam", "sgd")
    for loss in ("nll", "cel")
}
"""The source's configurations; the rounds of a shorter run are the first of a longer one."""
CIFAR = Launch(
    "cifar",
    "fedbagan",
    (
        "data.limit=5000",
        "model={latent: 64, width: 24}",
        "autoencoder.rounds=20",
        "gan.rounds=20",
        "report={every: 10, per_class: 200}",
        "measure.judge_steps=1000",
    ),
)
SOURCE_BEST = 0.506
"""The source's smallest Frechet distance over its FedGAN's: 85.59 / 169.26."""

Row = tuple[str, ...]
Results = dict[tuple[str, int], dict[str, Any]]


def held(launch: Launch, seed: int, out: Path) -> dict[str, Any]:
    """The metrics of one run within this process, made now if they are not there."""
    folder = out / f"{launch.name}-{seed}"
    if not (folder / "metrics.json").exists():
        print(f"{folder}", file=sys.stderr)  # noqa: T201 - what the command is doing
        loaded = load_config(launch.example, (f"seed={seed}", *launch.overrides))
        names = tuple(loaded.cluster.entries)
        config: Any = loaded.method
        sites = {
            name: FedBaganSite(config, SiteContext(name, k, len(names), seed, "cpu", folder))
            for k, name in enumerate(names)
        }
        capabilities = {name: site.prepare(NullProgress()) for name, site in sites.items()}
        run_job(config, local_network(sites, capabilities, seed), folder, seed, NullProgress())
    found: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return found


def cifar(root: Path) -> Launch:
    """The run on CIFAR-10: its Python version, or pictures in one folder a class below train and test."""
    name = "cifar10" if (root / "cifar-10-batches-py").is_dir() else "folder"
    return Launch(CIFAR.name, CIFAR.example, (f"data.name={name}", f"data.root={root}", *CIFAR.overrides))


def each(values: list[float | None], digits: int = 2) -> str:
    """The mean, and each seed's value."""
    there = [value for value in values if value is not None]
    if not there:
        return "not measured"
    listed = ", ".join("-" if value is None else f"{value:.{digits}f}" for value in values)
    return f"{mean(there):.{digits}f} ({listed})"


def ratio(above: list[float | None], below: list[float | None], digits: int = 2) -> str:
    """Each seed's quotient, and their mean."""
    return each([a / b if a is not None and b else None for a, b in zip(above, below, strict=True)], digits)


def rows(found: Results, seeds: list[int], bus: dict[str, Any] | None) -> Iterator[Row]:
    """The rows over the seeds: what, measured, must reach."""
    runs = [found[MAIN.name, seed] for seed in seeds]
    longer = [found[LONGER.name, seed]["arms"][DECODER] for seed in seeds if (LONGER.name, seed) in found]

    def of(arm: str, key: str) -> list[float | None]:
        return [one["arms"][arm][key] for one in runs]

    ours, decoder, plain = (of(arm, "frechet") for arm in (BALANCING, DECODER, BASELINE))
    rare, rare_decoder, rare_plain = (of(arm, "rare") for arm in (BALANCING, DECODER, BASELINE))
    yield f"{BALANCING}: Frechet distance, all classes", each(ours), "-"
    yield f"{DECODER}, from which it began", each(decoder), "-"
    yield f"{BASELINE}, as many batches", each(plain, 1), "-"
    yield f"{REAL} (the floor)", each(of(REAL, "frechet")), "-"
    yield f"**{BALANCING} / {DECODER}**", ratio(ours, decoder), "mean <= 1.0"
    if len(longer) == len(seeds):
        same = [one["frechet"] for one in longer]
        yield f"{DECODER}, trained on with as many batches", each(same), "-"
        yield f"{BALANCING} / that", ratio(ours, same), "-"
    yield f"{BALANCING}, last round instead of the best, / {DECODER}", ratio(of(LAST, "frechet"), decoder), "-"
    yield f"{BALANCING} / {BASELINE}", ratio(ours, plain), "<= .4"
    yield "Frechet distance of the rare classes", each(rare), "-"
    yield f"... {DECODER}", each(rare_decoder), "-"
    yield f"... {BASELINE}", each(rare_plain, 1), "-"
    yield f"... {REAL}", each(of(REAL, "rare")), "-"
    yield f"... {BALANCING} / {DECODER}", ratio(rare, rare_decoder), "-"
    yield f"... {BALANCING} / {BASELINE}", ratio(rare, rare_plain), "<= .75"
    yield "conditional accuracy, all classes", each(of(BALANCING, "accuracy")), ">= .80"
    yield "conditional accuracy, rare classes", each(of(BALANCING, "rare_accuracy")), ">= .65"
    yield f"share of rare classes, {BALANCING}", each(of(BALANCING, "share")), ".35 to .60"
    yield f"share of rare classes, {BASELINE}", each(of(BASELINE, "share")), "-"
    yield "chosen round", ", ".join(str(one["best"]["round"]) for one in runs), "-"
    if bus is not None:
        here = runs[0]
        apart = max(
            abs(a["distance"] - b["distance"]) for a, b in zip(here["frames"]["gan"], bus["frames"]["gan"], strict=True)
        )
        equal = [one["digest"] for one in here["rounds"]["gan"]] == [one["digest"] for one in bus["rounds"]["gan"]]
        said = f"digests of all rounds {'equal' if equal else 'differ'}; distances apart by {apart:g}"
        yield f"seed {seeds[0]} over the bus (`fednet launch fedbagan`)", said, "equal"


def table(found: Results, seeds: list[int], bus: dict[str, Any] | None) -> str:
    """The rows as Markdown."""
    counts = found[MAIN.name, seeds[0]]["arms"][BALANCING]["count"]
    head = (
        f"Seeds {', '.join(map(str, seeds))}; mean (each seed). Digits, 8 x 8: five sites, Dirichlet .5, classes 5-9 "
        f"cut tenfold; {counts} samples, as many of each class, against the 360 test pictures, in the 32 features of a "
        "judge trained on pictures that no site has."
    )
    lines = [head, "", "| what | measured | must reach |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows(found, seeds, bus))])


def by_class(found: Results, seeds: list[int]) -> str:
    """Every class's distance, mean over the seeds."""
    arms = {arm: [found[MAIN.name, seed]["arms"][arm]["by_class"] for seed in seeds] for arm in ARMS}
    classes = list(arms[REAL][0])
    lines = [
        "Frechet distance class by class, mean over the seeds (in brackets: in how many of them enough was drawn):", "",
        f"| pictures | {' | '.join(classes)} |", f"|---|{'---|' * len(classes)}",
    ]  # fmt: skip
    for arm, seen in arms.items():
        cells = []
        for label in classes:
            there = [one[label] for one in seen if one[label] is not None]
            few = "" if len(there) == len(seen) else f" ({len(there)})"
            cells.append(f"{mean(there):.1f}{few}" if there else "never")
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    return "\n".join(lines)


ARMS = (BALANCING, DECODER, BASELINE, REAL)


def upto(metrics: dict[str, Any], rounds: int) -> tuple[float, float]:
    """The last round's distance to the test pictures of a run of so many rounds, and that of its best."""
    frames = [frame for frame in metrics["frames"]["gan"] if 0 < frame["round"] <= rounds]
    best = min(frames, key=lambda frame: frame["distance"])
    return frames[-1]["worth"]["frechet"], best["worth"]["frechet"]


def comparison(found: Results, seeds: list[int]) -> str:
    """The source's comparison of configurations."""
    here = sorted({seed for seed in seeds for one in COMPARED.values() if (one.name, seed) in found})
    if not here:
        return "The comparison of configurations was not measured."
    lines = [
        (f"The source's configurations, seed{'s' if len(here) > 1 else ''} {', '.join(map(str, here))}: Frechet "
        f"distance of the best round (of the last), and over that of {DECODER}:"), "",
        "| optimiser, loss | " + " | ".join(f"{rounds} rounds" for rounds in ROUNDS) + " |",
        "|---|" + "---|" * len(ROUNDS),
    ]  # fmt: skip
    for (optimiser, loss), launch in COMPARED.items():
        runs = [found[launch.name, seed] for seed in here if (launch.name, seed) in found]
        cells = [_cell(runs, rounds) if runs else "not measured" for rounds in ROUNDS]
        lines.append(f"| {optimiser.upper()}, {loss.upper()} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(runs: list[dict[str, Any]], rounds: int) -> str:
    pairs = [upto(one, rounds) for one in runs]
    began = [one["arms"][DECODER]["frechet"] for one in runs]
    last, best = mean(one for one, _ in pairs), mean(one for _, one in pairs)
    return f"{best:.2f} ({last:.2f}), {mean(b / d for (_, b), d in zip(pairs, began, strict=True)):.2f}x"


def plot(found: Results, seeds: list[int]) -> None:
    """The comparison as a picture: distance to the test pictures by round, mean over the seeds."""
    figure = Figure(figsize=(7, 3.4), dpi=110, layout="constrained")
    axes = figure.subplots()
    for (optimiser, loss), launch in COMPARED.items():
        runs = [found[launch.name, seed]["frames"]["gan"] for seed in seeds if (launch.name, seed) in found]
        if runs:
            distances = [mean(run_[k]["worth"]["frechet"] for run_ in runs) for k in range(len(runs[0]))]
            style: dict[str, Any] = {
                "linestyle": "--" if loss == "nll" else "-",
                "linewidth": 3 if loss == "nll" else 1.4,
            }
            axes.plot([frame["round"] for frame in runs[0]], distances, label=f"{optimiser}, {loss}", **style)
    for rounds in ROUNDS:
        axes.axvline(rounds, color="grey", linewidth=0.6, alpha=0.5)
    axes.set(xlabel="round of adversarial training (0: the decoder alone)", ylabel="Frechet distance")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    figure.savefig(README.with_name("configurations.png"))


def picture(folder: Path) -> None:
    """The README's picture: grids of one run, and its animation."""
    there = sorted((folder / "samples").glob("round-*.png"))
    shown = [there[0], there[len(there) // 2], there[-1]]
    figure = Figure(figsize=(10.5, 2.3), dpi=110, layout="constrained")
    for axes, path in zip(figure.subplots(1, 3).flat, shown, strict=True):
        axes.imshow(imread(path), interpolation="nearest", cmap="gray")
        number = int(path.stem.removeprefix("round-"))
        axes.set_title(f"after round {number}" if number else "the decoder alone")
        axes.axis("off")
    figure.savefig(README.with_name("result.png"))
    copyfile(folder / ANIMATION, README.with_name("rounds.gif"))


def photographs(metrics: dict[str, Any]) -> str:
    """The run on CIFAR-10."""
    arms = metrics["arms"]
    lines = [
        ("CIFAR-10, seed 10, scaled down: 5000 training pictures of which classes 5-9 are cut tenfold, five sites, "
        "Dirichlet .5; width 24, 20 + 20 rounds; 2000 samples against 5000 test pictures, features of a judge trained "
        "on 5000 others (not Inception's)."), "",
        "| pictures | Frechet | / FedGAN's | rare classes | conditional accuracy, all / rare | share of rare |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    base = arms[BASELINE]["frechet"]
    for name, one in arms.items():
        told = "-" if one["accuracy"] is None else f"{one['accuracy']:.2f} / {one['rare_accuracy']:.2f}"
        rare = "-" if one["rare"] is None else f"{one['rare']:.1f}"
        cells = (name, f"{one['frechet']:.1f}", f"{one['frechet'] / base:.3f}", rare, told, f"{one['share']:.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"The source's best over its FedGAN, in Inception's features: {SOURCE_BEST}."])


def main() -> None:
    """Measures what is missing and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[10, 11, 12, 13, 14])
    parser.add_argument("--compared", type=int, nargs="*", default=[10, 11], help="seeds of the comparison")
    parser.add_argument("--out", type=Path, default=Path("runs/fedbagan"))
    parser.add_argument("--cifar", type=Path, help="the folder of CIFAR-10")
    parser.add_argument("--present", action="store_true", help="run nothing: tables of what is there")
    parser.add_argument("--write", action="store_true", help=f"also write them and the pictures beside {README}")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    seeds, out = arguments.seeds, arguments.out
    wanted = [(launch, seed) for launch in (MAIN, LONGER) for seed in seeds]
    wanted += [(launch, seed) for seed in arguments.compared for launch in COMPARED.values()]

    def there(launch: Launch, seed: int) -> bool:
        return (out / f"{launch.name}-{seed}" / "metrics.json").exists()

    found = {
        (one.name, seed): held(one, seed, out) for one, seed in wanted if not arguments.present or there(one, seed)
    }
    bus = None
    if not arguments.present or there(OVER_THE_BUS, seeds[0]):
        bus = launched(OVER_THE_BUS, seeds[0], out)
    curves = "![the comparison, by round](configurations.png)"
    parts = [table(found, seeds, bus), by_class(found, seeds), comparison(found, arguments.compared), curves]
    if arguments.cifar is not None:
        parts.append(photographs(held(cifar(arguments.cifar), seeds[0], out)))
    text = "\n\n".join(parts)
    print(text)  # noqa: T201 - the command's result
    if arguments.write:
        write(README, text)
        plot(found, arguments.compared)
        picture(out / f"{MAIN.name}-{seeds[0]}")


if __name__ == "__main__":
    main()
