"""The job of a run: the autoencoder, the Gaussians, the GAN initialised from both, the baseline GAN, measures.

Between stretches of rounds the generator is fetched, measured, shown and kept as a checkpoint. The best is the one
with the smallest Frechet distance to the *judge's* pictures, so that the test pictures decide nothing; at the end every
site gets it. Where nothing is measured the last one counts, and no baseline is trained, which is there to be compared
with. Measurements are kept in a journal. The same code runs over the bus and in one process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from fednet.api import ModelState, Network, Progress, RoundPlan, RoundRecord
from fednet.errors import DataError
from fednet.federated.state import model_tensors, unpack
from fednet.files import write_whole
from fednet.methods.common.job import JudgedContext, run_stages, summarise_each
from fednet.methods.common.measures import measuring_splits
from fednet.methods.common.model_transfer import fetch_model
from fednet.methods.fedbagan.checkpoint import CheckpointDescription, GeneratorCheckpoint, generate
from fednet.methods.fedbagan.config import FedBaganConfig
from fednet.methods.fedbagan.export import FOLDER, export_checkpoint
from fednet.methods.fedbagan.findings import FedBaganFindings, FedBaganFrame
from fednet.methods.fedbagan.gaussians import ClassGaussians
from fednet.methods.fedbagan.messages import (
    AUTOENCODER,
    GAN,
    INITIALISE,
    MOMENTS,
    PLAIN_GAN,
    SUM,
    TRAIN,
    FedBaganCapabilities,
    read_fedbagan_capabilities,
)
from fednet.methods.fedbagan.results import BEST_CHECKPOINT, summarise, write_metrics
from fednet.metrics.balance import Balance, balance, real_balance
from fednet.metrics.frechet import frechet_distance
from fednet.models.codec import Decoder
from fednet.reporting.animation import MAX_COLUMNS, animate, write_grid
from fednet.reporting.samples import LAST_SAMPLES, SampleBatch, write_samples
from fednet.reporting.summary import Summary
from fednet.seeds import generator

Steps = Iterator[FedBaganFindings]
"""The findings after every step of a stage."""

OVERSAMPLING = 4
"""So many times more pictures are generated without a label, since their classes are not known beforehand."""
AVERAGE_PREFIX = "average."
"""Prefix of the averaged generator in the GAN's state."""


def run_job(config: FedBaganConfig, network: Network, folder: Path, seed: int, progress: Progress) -> Summary:
    """Does the whole job.

    Leaves in `folder`: summary.json (after every stretch of rounds), metrics.json, samples/ with grids and an animated
    GIF, checkpoints/ with the generator after every stretch and the best one, models/generator/ with the best one as a
    folder for torch and safetensors, journal.jsonl. A run that is started again in its folder goes on where it was.

    Args:
        config: rounds and measures.
        network: reaches the sites, and knows their capabilities.
        folder: the run's folder.
        seed: the run's seed.
        progress: told of every step; may ask for the end.

    Raises:
        MethodError: the sites do not fit the data, or none answers.
        Stopped: `progress` asks for the end.
    """
    capabilities = read_fedbagan_capabilities(network.capabilities)
    _require_latent(capabilities, config.model.latent)
    splits = measuring_splits(config, capabilities, strange=False)
    context = FedBaganContext.start(config, network, capabilities, splits, folder, seed=seed, progress=progress)

    def shown(latest: FedBaganFindings) -> Summary:
        return context.with_data(summarise(config, latest, context.sites, context.classes))

    start = FedBaganFindings(_floor(context, progress))
    steps = run_stages((_autoencoder, _initialised, _gan, _plain), context, start, progress)
    findings = summarise_each(steps, shown, folder, start)
    write_metrics(folder, config, findings, context.classes)
    return shown(findings)


@dataclass
class FedBaganContext(JudgedContext[FedBaganConfig, FedBaganCapabilities]):
    """What all stages need, with the labels of the samples and the judge's features of its own pictures."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.classes = self.capabilities[self.first_site].classes
        self.labels = torch.arange(len(self.classes)).repeat_interleave(self.config.report.per_class)
        measures = self.measures
        self.judge_features = measures.judge.features(measures.splits.judge.images) if measures else None

    def distance(self, images: Tensor) -> float | None:
        """The Frechet distance of samples to the judge's pictures, by which the best is chosen."""
        if self.measures is None or self.judge_features is None:
            return None
        return frechet_distance(self.measures.judge.features(images), self.judge_features)

    def state(self, model: str) -> dict[str, Tensor]:
        """A model as the first site has it; all have the same."""
        return model_tensors(unpack(fetch_model(self.network, self.first_site, model)))

    def noise(self, count: int) -> Tensor:
        """The same normal vectors at every frame, so that frames differ by their generators alone."""
        return torch.randn(count, self.config.model.latent, generator=generator(self.seed, "samples"))

    def checkpoint(self, number: int) -> Path:
        """The file of the generator after a round."""
        return self.folder / "checkpoints" / f"round-{number:04d}.safetensors"


def _require_latent(capabilities: Mapping[str, FedBaganCapabilities], latent: int) -> None:
    """Checks that the sites decode latent vectors of the size that the run draws."""
    name, site = next(iter(capabilities.items()))
    if site.latent != latent:
        raise DataError(f"{name} has latent vectors of {site.latent} numbers, the run {latent}: use one configuration")


def _autoencoder(context: FedBaganContext, findings: FedBaganFindings, progress: Progress) -> Steps:
    for _, records in _stretches(context, AUTOENCODER, context.config.autoencoder.rounds, progress):
        findings = findings.after(AUTOENCODER, records)
        yield findings


def _initialised(context: FedBaganContext, findings: FedBaganFindings, progress: Progress) -> Steps:
    """The Gaussians, and the GAN's first weights: each in one round, in which all sites take part."""
    for model, work in ((MOMENTS, SUM), (GAN, INITIALISE)):
        progress.report(f"{work} {model}", 0, 1)
        plan = RoundPlan(f"{model}-{work}", model, work, 1, context.config.summing)
        findings = findings.after(model, context.rounds(plan))
    yield findings.after(GAN, frame=_frame(context, 0))


def _gan(context: FedBaganContext, findings: FedBaganFindings, progress: Progress) -> Steps:
    for done, records in _stretches(context, GAN, context.config.gan.rounds, progress):
        findings = findings.after(GAN, records, _frame(context, done))
        animate(context.folder, [frame.round for frame in findings.frames[GAN]])
        if best := findings.best(GAN):
            write_whole(context.folder / BEST_CHECKPOINT, context.checkpoint(best.round).read_bytes())
            export_checkpoint(GeneratorCheckpoint.read(context.folder / BEST_CHECKPOINT), context.folder / FOLDER)
        yield findings
    best = findings.best(GAN)
    if best is not None and best.round != context.config.gan.rounds:
        progress.report("giving the best generator to all sites", 0, 1)
        plan = RoundPlan("gan-best", GAN, TRAIN, 1, context.config.federation, replacement=_with_best(context))
        yield findings.after(GAN, context.rounds(plan))


def _plain(context: FedBaganContext, findings: FedBaganFindings, progress: Progress) -> Steps:
    planned = context.config.plain_rounds if context.measures else 0
    for done, records in _stretches(context, PLAIN_GAN, planned, progress):
        findings = findings.after(PLAIN_GAN, records, _plain_frame(context, done))
        yield findings


def _stretches(
    context: FedBaganContext, model: str, planned: int, progress: Progress
) -> Iterator[tuple[int, tuple[RoundRecord, ...]]]:
    """Holds rounds of training, `report.every` at a time: how many there have been, and the records of the latest."""
    done = 0
    while done < planned:
        progress.report(f"rounds of the {model}", done, planned)
        count = min(context.config.report.every, planned - done)
        records = context.rounds(RoundPlan(f"{model}-{done}", model, TRAIN, count, context.config.federation))
        done += count
        yield done, records


def _floor(context: FedBaganContext, progress: Progress) -> Balance | None:
    """The measures of real pictures; None where there are none to measure with."""
    config, measures = context.config, context.measures
    if measures is None:
        return None
    progress.report("measuring real pictures", 0, 1)
    splits = measures.splits

    def measure() -> Balance:
        return real_balance(
            splits.train,
            judge=measures.judge,
            reference=splits.test,
            rare=config.rare(context.classes),
            per_class=config.report.per_class,
            seed=context.seed,
        )

    return context.journal.once("floor", Balance, measure)


def _frame(context: FedBaganContext, number: int) -> FedBaganFrame:
    """Fetches the generator after a round, keeps it, shows its samples and measures them, if anything is measured."""

    def measure() -> FedBaganFrame:
        checkpoint, labels = _fetched(context, number), context.labels
        images = checkpoint.draw(labels, context.noise(len(labels)))
        distance = context.distance(images)
        about = checkpoint.about.model_copy(update={"distance": distance})
        replace(checkpoint, about=about).write(context.checkpoint(number))
        shown = _in_columns(context)
        write_grid(context.folder, number, images[shown.flatten()], columns=shown.shape[1])
        batch = SampleBatch(images, labels, classes=context.classes)
        write_samples(context.folder / LAST_SAMPLES, batch)
        return FedBaganFrame(number, distance, _balance(context, images, labels))

    return context.journal.once(f"frame-{number}", FedBaganFrame, measure)


def _plain_frame(context: FedBaganContext, number: int) -> FedBaganFrame:
    """The same for the plain GAN, which knows no labels and leaves no checkpoint."""

    def measure() -> FedBaganFrame:
        count = len(context.labels)
        images = generate(_decoder(context, context.state(PLAIN_GAN)), context.noise(OVERSAMPLING * count))
        return FedBaganFrame(number, context.distance(images[:count]), _balance(context, images, None))

    return context.journal.once(f"plain-frame-{number}", FedBaganFrame, measure)


def _balance(context: FedBaganContext, images: Tensor, labels: Tensor | None) -> Balance | None:
    measures = context.measures
    if measures is None:
        return None
    return balance(
        images,
        labels,
        judge=measures.judge,
        reference=measures.splits.test,
        rare=context.config.rare(context.classes),
        per_class=context.config.report.per_class,
    )


def _with_best(context: FedBaganContext) -> ModelState:
    """The GAN as it is, with the best generator as its average."""
    best = GeneratorCheckpoint.read(context.folder / BEST_CHECKPOINT).generator.state_dict()
    return {**context.state(GAN), **{AVERAGE_PREFIX + name: value for name, value in best.items()}}


def _fetched(context: FedBaganContext, number: int) -> GeneratorCheckpoint:
    """The generator and the Gaussians as the sites have them."""
    site = context.capabilities[context.first_site]
    about = CheckpointDescription(model=context.config.model, shape=site.shape, classes=site.classes, round=number)
    gaussians = ClassGaussians.of(context.state(MOMENTS), context.config.gaussians.shrinkage)
    return GeneratorCheckpoint(_decoder(context, context.state(GAN)), gaussians, about)


def _decoder(context: FedBaganContext, state: ModelState) -> Decoder:
    net = Decoder(context.config.model, context.capabilities[context.first_site].shape)
    net.load_state_dict(
        {name.removeprefix(AVERAGE_PREFIX): state[name] for name in state if name.startswith(AVERAGE_PREFIX)}
    )
    return net.eval().requires_grad_(False)


def _in_columns(context: FedBaganContext) -> Tensor:
    """The positions (samples of a class, classes) of the samples that a grid shows: every column one class."""
    return torch.arange(len(context.labels)).view(-1, context.config.report.per_class)[:MAX_COLUMNS].T
