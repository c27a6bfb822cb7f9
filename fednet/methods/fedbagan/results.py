"""What a run shows and leaves: the measures of each generator's samples, class by class, grids, curves, all numbers.

Beside the balancing GAN stand the decoder alone, the plain GAN and real pictures, each measured at the same counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from fednet.data.classes import label_of
from fednet.methods.common.report import grid_figures, non_empty, round_accounts, value_charts
from fednet.methods.fedbagan.config import FedBaganConfig
from fednet.methods.fedbagan.findings import FedBaganFindings, FedBaganFrame
from fednet.methods.fedbagan.messages import AUTOENCODER, GAN, PLAIN_GAN
from fednet.metrics.balance import Balance
from fednet.reporting.animation import ANIMATION, MAX_COLUMNS
from fednet.reporting.record import RunRecord, write_json
from fednet.reporting.summary import Cell, Summary, SummaryChart, SummarySection, SummaryTable
from fednet.reporting.tables import plural

BEST_CHECKPOINT = "checkpoints/best.safetensors"
"""The best generator, below the run's folder."""
BALANCING, LAST, DECODER, BASELINE, REAL = "FedBAGAN", "FedBAGAN, last round", "AE-only", "FedGAN", "real pictures"
"""What is measured, by the names in the tables."""
MEASURES = {
    "frechet": "Frechet", "rare": "Frechet, rare", "accuracy": "accuracy", "rare_accuracy": "accuracy, rare",
    "share": "share of rare",
}  # fmt: skip
LOSSES = {
    AUTOENCODER: {"reconstruction": "reconstruction", "classifier": "classifier of latent vectors"},
    GAN: {"generator_loss": "generator", "discriminator_loss": "discriminator"},
    PLAIN_GAN: {"generator_loss": "FedGAN's generator", "discriminator_loss": "FedGAN's discriminator"},
}


def summarise(
    config: FedBaganConfig, findings: FedBaganFindings, sites: Sequence[str], classes: Sequence[str]
) -> Summary:
    """What a reader is shown of the findings so far."""
    worth, frames = arms(findings), findings.frames.get(GAN, ())
    grids = grid_figures([frame.round for frame in frames], "the decoder alone")
    about = _notes(config, findings)
    shown = _animated(frames) if worth else (*about, *_animated(frames))
    sections = (
        SummarySection(title="Measures of the samples", table=_worth(worth), notes=about),
        SummarySection(title="Class by class", table=_by_class(worth), notes=_counted(config)),
        SummarySection(title="Samples", notes=shown, figures=grids, charts=tuple(_distances(findings))),
        SummarySection(title="Losses", charts=tuple(_losses(findings))),
    )
    return Summary(
        title=f"{plural('site', len(sites))}, {_rare(config, classes)}",
        sections=non_empty(sections),
        accounts=round_accounts(findings.rounds, sites),
    )


def arms(findings: FedBaganFindings) -> dict[str, Balance]:
    """The measures of each kind of pictures, best first; none where nothing is measured."""
    frames, best = findings.frames.get(GAN, ()), findings.best(GAN)
    chosen = {
        BALANCING: best,
        LAST: frames[-1] if best else None,
        DECODER: frames[0] if frames else None,
        BASELINE: findings.best(PLAIN_GAN),
    }
    worth = {name: frame.worth for name, frame in chosen.items() if frame is not None and frame.worth is not None}
    return {**worth, **({REAL: findings.floor} if findings.floor else {})}


def write_metrics(folder: Path, config: FedBaganConfig, findings: FedBaganFindings, classes: Sequence[str]) -> None:
    """Writes TensorBoard's events, a table and metrics.json: every number."""
    worth, best = arms(findings), findings.best(GAN)
    with RunRecord(folder, "driver") as record:
        for model, frames in findings.frames.items():
            for frame in frames:
                if frame.distance is not None:
                    record.scalar(f"{model}/distance to the judge's pictures", frame.distance, frame.round)
        if worth:
            record.table("worth", [{"samples": name, **_flat(one)} for name, one in worth.items()])
    numbers = {
        "arms": {name: asdict(one) for name, one in worth.items()},
        "rare": config.rare(classes),
        "best": best and asdict(best),
        "frames": {model: [asdict(frame) for frame in frames] for model, frames in findings.frames.items()},
        "rounds": {model: [asdict(record) for record in records] for model, records in findings.rounds.items()},
    }
    write_json(folder / "metrics.json", numbers)


def _worth(worth: Mapping[str, Balance]) -> SummaryTable | None:
    if not worth:
        return None
    base = worth.get(BASELINE)
    rows: list[tuple[Cell, ...]] = [
        (name, *(getattr(one, key) for key in MEASURES), one.frechet / base.frechet if base else None)
        for name, one in worth.items()
    ]
    return SummaryTable(columns=("pictures", *MEASURES.values(), f"Frechet / {BASELINE}'s"), rows=tuple(rows))


def _by_class(worth: Mapping[str, Balance]) -> SummaryTable | None:
    if not worth:
        return None
    classes = tuple(next(iter(worth.values())).by_class)
    rows = [(name, *(one.by_class[label] for label in classes)) for name, one in worth.items()]
    return SummaryTable(columns=("Frechet distance of", *classes), rows=tuple(rows))


def _notes(config: FedBaganConfig, findings: FedBaganFindings) -> tuple[str, ...]:
    best = findings.best(GAN)
    if best is None:
        return ()
    if best.distance is None:
        only = (
            f"{BALANCING} is the generator after the last round, {best.round}, since nothing is measured that could "
            f"choose another; it is kept as {BEST_CHECKPOINT}, and every site has it. No baseline was trained."
        )
        return (only,)
    first = (
        f"{BALANCING} is the generator after round {best.round}, the one with the smallest Frechet distance to the "
        f"judge's pictures ({best.distance:.3g}); it is kept as {BEST_CHECKPOINT}, and every site has it."
    )
    if not config.baseline:
        return (first,)
    second = (
        f"{BASELINE} is chosen in the same way; it generates without labels, so its rare classes are those that the "
        f"judge sees. It has had {config.plain_rounds} rounds, as many batches as both trainings above."
    )
    return (first, second)


def _counted(config: FedBaganConfig) -> tuple[str, ...]:
    return (f"{config.report.per_class} samples of each class; where a cell is empty, there were too few of them.",)


def _animated(frames: Sequence[FedBaganFrame]) -> tuple[str, ...]:
    return (f"One column per class, {MAX_COLUMNS} at most. Animation: {ANIMATION}",) if len(frames) > 1 else ()


def _distances(findings: FedBaganFindings) -> Iterator[SummaryChart]:
    frames = {BALANCING: findings.frames.get(GAN, ()), BASELINE: findings.frames.get(PLAIN_GAN, ())}
    values: dict[str, Callable[[FedBaganFrame], float | None]] = {
        "Frechet distance to the test pictures": lambda frame: frame.worth.frechet if frame.worth else None,
        "Frechet distance to the judge's pictures, which chooses the best": lambda frame: frame.distance,
    }
    for title, value in values.items():
        points = {
            name: tuple((float(frame.round), number) for frame in some if (number := value(frame)) is not None)
            for name, some in frames.items()
        }
        if lines := {name: line for name, line in points.items() if len(line) > 1}:
            yield SummaryChart(title=title, across="round", lines=lines)


def _losses(findings: FedBaganFindings) -> Iterator[SummaryChart]:
    for model, names in LOSSES.items():
        titles = {key: f"loss of the {name}" for key, name in names.items()}
        yield from value_charts(findings.rounds.get(model, ()), titles, first=0)


def _rare(config: FedBaganConfig, classes: Sequence[str]) -> str:
    rare = {label_of(name, classes, "partition.imbalance"): part for name, part in config.partition.imbalance.items()}
    parts = ", ".join(f"{classes[label]} to {rare[label]:g}" for label in config.rare(classes))
    return f"rare: {parts}" if parts else "no class is made rare"


def _flat(one: Balance) -> dict[str, Cell]:
    values: dict[str, Cell] = {title: getattr(one, key) for key, title in MEASURES.items()}
    return {**values, **{f"Frechet, {label}": value for label, value in one.by_class.items()}}
