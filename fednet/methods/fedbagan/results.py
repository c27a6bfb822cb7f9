"""What a run shows and leaves: what each generator's samples are worth, class by class, grids, curves, all numbers.

Beside the balancing GAN stand the decoder alone, the plain GAN and real pictures, each measured at the same counts.
Computes nothing that it does not write.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fednet.methods.fedbagan.config import FedBaganConfig
from fednet.methods.fedbagan.messages import AUTOENCODER, GAN, PLAIN_GAN
from fednet.methods.fedbagan.pipeline import BEST_CHECKPOINT, FedBaganFindings
from fednet.reporting.animation import ANIMATION, grid_path
from fednet.reporting.record import RunRecord, write_json
from fednet.reporting.summary import (
    Cell,
    ParticipationAccount,
    Summary,
    SummaryChart,
    SummaryFigure,
    SummarySection,
    SummaryTable,
)

BALANCING, LAST, DECODER, BASELINE, REAL = "FedBAGAN", "FedBAGAN, last round", "AE-only", "FedGAN", "real pictures"
"""What is measured, by the names that the tables have."""
MEASURES = {
    "frechet": "Frechet", "rare": "Frechet, rare", "accuracy": "accuracy", "rare_accuracy": "accuracy, rare",
    "share": "share of rare",
}  # fmt: skip
LOSSES = {
    AUTOENCODER: {"reconstruction": "reconstruction", "classifier": "classifier of latent vectors"},
    GAN: {"generator_loss": "generator", "discriminator_loss": "discriminator"},
    PLAIN_GAN: {"generator_loss": "FedGAN's generator", "discriminator_loss": "FedGAN's discriminator"},
}
MAX_GRIDS = 6
"""Grids at most."""


def summarise(config: FedBaganConfig, found: FedBaganFindings, sites: Sequence[str]) -> Summary:
    """What a reader is shown of what there is so far."""
    worth = measured_generators(found)
    sections = (
        SummarySection(title="What the samples are worth", table=_quality_table(worth), notes=_notes(config, found)),
        SummarySection(title="Class by class", table=_class_table(worth), notes=_count_notes(config)),
        SummarySection(
            title="Samples", notes=_animation_note(found), figures=_grids(found), charts=tuple(_distances(found))
        ),
        SummarySection(title="Losses", charts=tuple(_losses(found))),
    )
    return Summary(
        title=f"{len(sites)} site{'s' if len(sites) > 1 else ''}, {_rare(config, worth)}",
        sections=tuple(part for part in sections if part.table or part.figures or part.charts),
        accounts={model: _account(held, sites) for model, held in found.rounds.items() if held},
    )


def measured_generators(found: FedBaganFindings) -> dict[str, Mapping[str, Any]]:
    """What each kind of pictures is worth against the test pictures, best first."""
    frames, worth = found.frames.get(GAN, ()), {}
    best, plain = found.best(GAN), found.best(PLAIN_GAN)
    if best is not None:
        worth = {BALANCING: best["worth"], LAST: frames[-1]["worth"]}
    if frames:
        worth[DECODER] = frames[0]["worth"]
    if plain is not None:
        worth[BASELINE] = plain["worth"]
    return {**worth, REAL: found.floor}


def write_metrics(folder: Path, config: FedBaganConfig, found: FedBaganFindings) -> None:
    """Writes TensorBoard's events, a table and metrics.json: every number, for whoever computes on with them."""
    worth = measured_generators(found)
    with RunRecord(folder, "sampler") as record:
        for model, frames in found.frames.items():
            for frame in frames:
                record.scalar(f"{model}/distance to the judge's pictures", frame["distance"], frame["round"])
        record.table("worth", [{"samples": name, **_flatten(one)} for name, one in worth.items()])
    write_json(
        folder / "metrics.json",
        {"arms": worth, "rare": config.rare, "best": found.best(GAN), "frames": found.frames, "rounds": found.rounds},
    )


def _quality_table(worth: Mapping[str, Mapping[str, Any]]) -> SummaryTable:
    base = worth.get(BASELINE)
    rows: list[tuple[Cell, ...]] = [
        (name, *(one[key] for key in MEASURES), one["frechet"] / base["frechet"] if base else None)
        for name, one in worth.items()
    ]
    return SummaryTable(columns=("pictures", *MEASURES.values(), f"Frechet / {BASELINE}'s"), rows=tuple(rows))


def _class_table(worth: Mapping[str, Mapping[str, Any]]) -> SummaryTable:
    classes = tuple(next(iter(worth.values()))["by_class"])
    rows = [(name, *(one["by_class"][label] for label in classes)) for name, one in worth.items()]
    return SummaryTable(columns=("Frechet distance of", *classes), rows=tuple(rows))


def _notes(config: FedBaganConfig, found: FedBaganFindings) -> tuple[str, ...]:
    notes = []
    best = found.best(GAN)
    if best is not None:
        notes.append(
            f"{BALANCING} is the generator after round {best['round']}, the one with the smallest Frechet distance to "
            f"the judge's pictures ({best['distance']:.3g}); it is kept as {BEST_CHECKPOINT}, and every site draws with it."
        )
    if best is not None and config.baseline:
        notes.append(
            f"{BASELINE} is chosen in the same way; it is drawn from without labels, so its rare classes are those "
            f"that the judge sees. It has had {config.plain_rounds} rounds, as many batches as both trainings above."
        )
    return tuple(notes)


def _count_notes(config: FedBaganConfig) -> tuple[str, ...]:
    return (f"{config.report.per_class} samples of each class; where a cell is empty, too few of them were drawn.",)


def _animation_note(found: FedBaganFindings) -> tuple[str, ...]:
    many = len(found.frames.get(GAN, ())) > 1
    return (f"A column a class. All rounds as a moving picture: {ANIMATION}",) if many else ()


def _grids(found: FedBaganFindings) -> tuple[SummaryFigure, ...]:
    frames = found.frames.get(GAN, ())
    numbers = [int(frame["round"]) for frame in _evenly_spaced(frames)]
    titles = {0: "the decoder alone"}
    stills = (SummaryFigure(title=titles.get(k, f"after round {k}"), file=grid_path(k), pixels=True) for k in numbers)
    moving = (SummaryFigure(title="all rounds", file=ANIMATION, pixels=True),) if len(frames) > 1 else ()
    return (*stills, *moving)


def _evenly_spaced(frames: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The first, the last, and some between them."""
    if len(frames) <= MAX_GRIDS:
        return list(frames)
    return [frames[round(k * (len(frames) - 1) / (MAX_GRIDS - 1))] for k in range(MAX_GRIDS)]


def _distances(found: FedBaganFindings) -> Iterator[SummaryChart]:
    frames = {BALANCING: found.frames.get(GAN, ()), BASELINE: found.frames.get(PLAIN_GAN, ())}
    for title, key in (
        ("Frechet distance to the test pictures", "frechet"),
        ("Frechet distance to the judge's pictures, which chooses the best", "distance"),
    ):
        lines = {
            name: tuple((float(frame["round"]), float({**frame, **frame["worth"]}[key])) for frame in there)
            for name, there in frames.items()
            if len(there) > 1
        }
        if lines:
            yield SummaryChart(title=title, across="round", lines=lines)


def _losses(found: FedBaganFindings) -> Iterator[SummaryChart]:
    """A chart a loss: a line a site."""
    for model, named in LOSSES.items():
        for key, title in named.items():
            lines: dict[str, list[tuple[float, float]]] = {}
            for number, one in enumerate(found.rounds.get(model, ())):
                for site, values in one["values"].items():
                    if key in values:
                        lines.setdefault(site, []).append((float(number), float(values[key])))
            if lines:
                done = {site: tuple(points) for site, points in sorted(lines.items())}
                yield SummaryChart(title=f"loss of the {title}", across="round", lines=done)


def _rare(config: FedBaganConfig, worth: Mapping[str, Mapping[str, Any]]) -> str:
    classes = tuple(worth[REAL]["by_class"])
    if not config.rare:
        return "no class is made rare"
    parts = (f"{classes[label]} to {config.partition.imbalance[label]:g}" for label in config.rare)
    return f"rare: {', '.join(parts)}"


def _flatten(one: Mapping[str, Any]) -> dict[str, Cell]:
    values: dict[str, Cell] = {title: one[key] for key, title in MEASURES.items()}
    return {**values, **{f"Frechet, {label}": value for label, value in one["by_class"].items()}}


def _account(held: Sequence[Mapping[str, Any]], sites: Sequence[str]) -> ParticipationAccount:
    account = ParticipationAccount.of("round", sites)
    for one in held:
        account.enter(one["weights"], one["late"], {**one["lost"], **one["refused"]})
    return account
