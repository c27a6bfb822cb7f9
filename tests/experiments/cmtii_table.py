"""The table of method 4, measured: launches the five arms with several seeds, and prints the results.

    python tests/experiments/cmtii_table.py [--seeds 0 1 2 3] [--out runs/cmtii] [--write] [--cifar DATA_ROOT]

Every seed is a `fednet launch` of its own (processes, sockets and all), whose folder stays below --out; a launch whose
metrics exist is not repeated. All seeds share one pair of pretrained models, which lies in --out/models and is made by
the first. `--cifar` adds a scaled run on CIFAR-10 at 16 x 16 pixels, from pictures in
DATA_ROOT/cifar10/{train,test}/<class>/. `--write` puts the table, and a picture, into the method's README.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any

import yaml
from matplotlib.figure import Figure
from matplotlib.image import imread
from tables import Launch, launched, write

README = Path("fednet/methods/cmtii/README.md")
Metrics = dict[str, Any]
Row = tuple[str, str, str, str]

SOURCE = {"zero-shot": ".08-.12", "local": ".42-.49", "exchange": ".88-.92", "control": ".42-.55", "central": ".96-.97"}
"""What the method's page has, measured on digits with another public set."""

CIFAR = """
    kind: embedded
    public: 0.5
    clip: {width: 32, patch: 4, pretraining: {steps: 4000, batch: 128, lr: 0.001, jitter: 0.15}}
    image_generator: {channels: [32, 64], pretraining: {steps: 3000, batch: 64, lr: 0.003, noise: 0.15}}
    store: STORE
"""


def cifar(root: Path, models: Path) -> Launch:
    """The scaled run: 16 x 16 pixels, 8,000 training pictures of which half are public, models that take 20 minutes."""
    backend = yaml.safe_load(CIFAR.replace("STORE", str(models.resolve())))
    data = {"name": "folder", "root": str((root / "cifar10").resolve()), "size": 16, "limit": 8000}
    patience = ("bus.timing.ready=7200", "bus.policy.hard_limit=3600")
    return Launch("cifar10", "cmtii", (f"data={json.dumps(data)}", f"backend={json.dumps(backend)}", *patience))


def each(values: list[float], digits: int = 3) -> str:
    """A mean, and each seed's."""
    return f"{mean(values):.{digits}f} ({', '.join(f'{value:.{digits}f}' for value in values)})"


def arm(metrics: Metrics, name: str) -> float:
    """The accuracy of an arm over all classes, mean of the sites."""
    return float(metrics["central"] if name == "central" else metrics["arms"][name])


def total(metrics: Metrics, what: str) -> int:
    """Bytes of all sites."""
    return sum(int(one[what]) for one in metrics["bytes"].values())


def worth(metrics: Metrics, what: str) -> float:
    """A measure of generated pictures, mean of the sites that have it."""
    return mean(one["worth"][what] for one in metrics["evaluations"].values() if one["worth"][what] is not None)


def leak(metrics: Metrics, what: str) -> list[float]:
    """A measure of what the words leak, by site."""
    return [float(one["leak"][what]) for one in metrics["evaluations"].values()]


def attacked(metrics: Metrics, what: str) -> float:
    """An attack's AUC over all sites, each weighted by its members."""
    counts = leak(metrics, "count")
    return sum(auc * count for auc, count in zip(leak(metrics, what), counts, strict=True)) / sum(counts)


def rows(found: list[Metrics]) -> Iterator[Row]:
    """The rows of the table."""

    def cell(measure: Any, digits: int = 3) -> str:
        return each([measure(one) for one in found], digits)

    must = {"exchange": ">= .80"}
    for name, page in SOURCE.items():
        yield (
            f"accuracy over all classes, {name}",
            cell(lambda one, k=name: arm(one, k)),
            page,
            must.get(name, "-"),
        )
    yield "exchange - local", cell(lambda one: arm(one, "exchange") - arm(one, "local")), "-", ">= .25"
    yield "exchange - control", cell(lambda one: arm(one, "exchange") - arm(one, "control")), "-", ">= .20"
    for name in ("local", "exchange"):
        yield f"accuracy on each site's own test, {name}", cell(lambda one, k=name: one["local"][k]), "-", "-"
    yield "words, all sites", cell(lambda one: sum(one["words"].values()), 0), "17-20", "-"
    yield "bytes of words, all sites", cell(lambda one: total(one, "words"), 0), "1.1-1.3 KB", "<= 2048"
    yield (
        "... of these offers on the wire, one copy each",
        cell(lambda one: total(one, "wire"), 0),
        "-",
        "beside it",
    )
    yield "... instead: the sites' training pictures", cell(lambda one: total(one, "pictures"), 0), "-", "-"
    yield (
        "... instead: one gradient of each image encoder, or that model",
        cell(lambda one: total(one, "gradient"), 0),
        "-",
        "-",
    )
    yield "generated pictures judged right", cell(lambda one: worth(one, "accuracy")), ".97", ">= .90"
    yield "... Frechet distance, the judge's features", cell(lambda one: worth(one, "frechet"), 1), "-", "-"
    yield "... one half of the real ones to the other", cell(lambda one: worth(one, "floor"), 1), "-", "-"
    yield (
        "... Inception Score, the judge's classes",
        cell(lambda one: worth(one, "inception_score"), 2),
        "-",
        "-",
    )
    for name, title in (("loss", "loss"), ("calibrated", "calibrated loss"), ("nearest", "nearest generated")):
        yield (
            f"membership AUC of the words, {title}",
            cell(lambda one, k=name: attacked(one, k)),
            "untested",
            "-",
        )
    for name, title in (("generated", "generated picture"), ("strangers", "real stranger")):
        yield (
            f"distance to the nearest private picture, {title}: mean",
            cell(lambda one, k=name: mean(leak(one, f"{k}_mean")), 2),
            "untested",
            "-",
        )
        yield "... least of all", cell(lambda one, k=name: min(leak(one, f"{k}_least")), 2), "untested", "-"


def table(found: list[Metrics], seeds: list[int]) -> str:
    """The table as Markdown."""
    sites = found[0]["capabilities"]
    shape = " x ".join(map(str, next(iter(sites.values()))["shape"]))
    head = (
        f"Seeds {', '.join(map(str, seeds))}; mean (each seed). {len(sites)} sites, Dirichlet .1, pictures {shape}; "
        "360 test pictures of all classes; one pair of pretrained models."
    )
    lines = [head, "", "| what | measured | method page | must reach |", "|---|---|---|---|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows(found))])


def scaled(metrics: Metrics) -> str:
    """The table of the run on CIFAR-10."""
    count = sum(sum(site["histogram"]) for site in metrics["capabilities"].values())
    sites = len(metrics["capabilities"])
    head = f"CIFAR-10 at 16 x 16, seed 0, as it is: {count} private pictures, transposed, {sites} sites."
    measured = {
        **{f"accuracy over all classes, {name}": f"{arm(metrics, name):.3f}" for name in SOURCE},
        **{f"accuracy on each site's own test, {k}": f"{metrics['local'][k]:.3f}" for k in ("local", "exchange")},
        "bytes of words, all sites": f"{total(metrics, 'words')}",
        "generated pictures judged right": f"{worth(metrics, 'accuracy'):.3f}",
        "membership AUC of the words, calibrated loss": f"{attacked(metrics, 'calibrated'):.3f}",
    }
    rows = [f"| {what} | {value} |" for what, value in measured.items()]
    return "\n".join(["", head, "", "| what | measured |", "|---|---|", *rows])


def picture(folder: Path) -> None:
    """The README's picture: what one site generates from received words, beside real pictures."""
    metrics_of = sorted((folder / "sites").iterdir())
    shown = [
        (folder / "real.png", "real, never seen by a site"),
        (metrics_of[0] / "generated-exchange.png", f"{metrics_of[0].name}, generated from received words"),
        (metrics_of[0] / "generated-control.png", f"{metrics_of[0].name}, generated from names (control)"),
    ]
    figure = Figure(figsize=(10, 3.6), dpi=110, layout="constrained")
    for axes, (path, title) in zip(figure.subplots(1, len(shown)).flat, shown, strict=True):
        axes.imshow(imread(path), interpolation="nearest")
        axes.set_title(title)
        axes.axis("off")
    figure.savefig(README.with_name("result.png"))


def main() -> None:
    """Measures what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--out", type=Path, default=Path("runs/cmtii"))
    parser.add_argument("--cifar", type=Path, metavar="DATA_ROOT", help="also a scaled run on CIFAR-10")
    parser.add_argument("--write", action="store_true", help=f"also write it and a picture beside {README}")
    arguments = parser.parse_args()
    models = arguments.out / "models"
    digits = Launch("digits", "cmtii", (f"backend.store={models.resolve()}",))
    text = table([launched(digits, seed, arguments.out) for seed in arguments.seeds], arguments.seeds)
    if arguments.cifar:
        text += "\n" + scaled(launched(cifar(arguments.cifar, models), 0, arguments.out))
    print(text)  # noqa: T201 - the command's result
    if arguments.write:
        write(README, text)
        picture(arguments.out / f"digits-{arguments.seeds[0]}")


if __name__ == "__main__":
    main()
