"""The steps of the job: the autoencoder, the Gaussians, the GAN that both make, the GAN to compare it with.

Between stretches of rounds the generator is fetched, measured, shown and kept as a checkpoint. The best is the one
with the smallest Frechet distance to the *judge's* pictures, so that the test pictures decide nothing; at the end it
is what every site draws with. What was measured stays in a journal, so that a run that was stopped measures nothing
twice. Knows how to ask and not whom.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fednet.api import ModelState, Progress, Question, RoundPlan
from fednet.errors import MethodError
from fednet.federated.state import model_tensors, unpack
from fednet.files import write_whole
from fednet.methods.common.job import PipelineContext, run_stages
from fednet.methods.fedbagan.checkpoint import CHUNK, CheckpointDescription, GeneratorCheckpoint
from fednet.methods.fedbagan.config import FedBaganConfig
from fednet.methods.fedbagan.gaussians import ClassGaussians
from fednet.methods.fedbagan.messages import (
    AUTOENCODER,
    GAN,
    INITIALISE_GAN,
    MOMENTS,
    PLAIN_GAN,
    SUM_MOMENTS,
    TRAIN,
    FedBaganCapabilities,
)
from fednet.metrics.balance import balance, real_balance
from fednet.metrics.frechet import frechet_distance
from fednet.models.codec import Decoder
from fednet.reporting.animation import animate, write_grid
from fednet.seeds import generator

OVERSAMPLING = 4
"""So many times more pictures are drawn without a label, since nobody knows beforehand what they will show."""
BEST_CHECKPOINT = "checkpoints/best.safetensors"
AVERAGE_PREFIX = "average."


@dataclass(frozen=True)
class FedBaganFindings:
    """What there is so far.

    Attributes:
        rounds: the records of the rounds, by model.
        frames: by model ("gan", "plain"), a measurement a grid: round, distance to the judge's pictures, and what the
            samples are worth against the test pictures. The GAN's first is the decoder alone.
        floor: the same of real pictures.
    """

    rounds: Mapping[str, tuple[Mapping[str, Any], ...]]
    frames: Mapping[str, tuple[Mapping[str, Any], ...]]
    floor: Mapping[str, Any]

    def best(self, model: str) -> Mapping[str, Any] | None:
        """The best frame after training: the least distance to the judge's pictures, the earliest of equals."""
        trained = [frame for frame in self.frames.get(model, ()) if frame["round"]]
        return min(trained, key=lambda frame: frame["distance"]) if trained else None

    def more(self, model: str, records: tuple[Mapping[str, Any], ...] = (), frame: Any = None) -> FedBaganFindings:
        """With further rounds and a further frame."""
        rounds = {**self.rounds, model: (*self.rounds.get(model, ()), *records)}
        frames = {**self.frames, model: (*self.frames.get(model, ()), *((frame,) if frame else ()))}
        return replace(self, rounds=rounds, frames=frames)


class FedBaganPipeline(PipelineContext[FedBaganConfig, FedBaganCapabilities]):
    """What all steps need, the labels that are drawn, and the judge's pictures in its own features."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.labels = torch.arange(len(self.splits.test.classes)).repeat_interleave(self.config.report.per_class)
        self.chosen = self.judge.features(self.splits.judge.images)


def pipeline(job: FedBaganPipeline, progress: Progress) -> Iterator[FedBaganFindings]:
    """Does the job, and says after every step what there is.

    Raises:
        MethodError: nobody answers, or a round cannot be held.
        Stopped: the watch asks for the end.
    """
    progress.report("measuring real pictures", 0, 1)
    found = FedBaganFindings({}, {}, job.journal.once("floor", lambda: _real_floor(job)))
    yield from run_stages((_autoencoder, _gan_initialisation, _gan, _plain), job, found, progress)


def _autoencoder(job: FedBaganPipeline, found: FedBaganFindings, progress: Progress) -> Iterator[FedBaganFindings]:
    for _, records in _round_intervals(job, AUTOENCODER, job.config.autoencoder.rounds, progress):
        found = found.more(AUTOENCODER, records)
        yield found


def _gan_initialisation(
    job: FedBaganPipeline, found: FedBaganFindings, progress: Progress
) -> Iterator[FedBaganFindings]:
    """The Gaussians, and the GAN of the autoencoder: each in one round, in which everybody takes part."""
    for model, work in ((MOMENTS, SUM_MOMENTS), (GAN, INITIALISE_GAN)):
        progress.report(f"{work} {model}", 0, 1)
        found = found.more(model, _run_rounds(job, RoundPlan(f"{model}-{work}", model, work, 1, job.config.summing)))
    yield found.more(GAN, frame=_frame(job, 0))


def _gan(job: FedBaganPipeline, found: FedBaganFindings, progress: Progress) -> Iterator[FedBaganFindings]:
    for done, records in _round_intervals(job, GAN, job.config.gan.rounds, progress):
        found = found.more(GAN, records, _frame(job, done))
        animate(job.folder, [int(frame["round"]) for frame in found.frames[GAN]])
        _keep_best(job, found)
        yield found
    best = found.best(GAN)
    if best is not None and best["round"] != job.config.gan.rounds:
        progress.report("giving the best to all", 0, 1)
        given = RoundPlan("gan-best", GAN, TRAIN, 1, job.config.federation, replacement=_install_best(job))
        yield found.more(GAN, _run_rounds(job, given))


def _plain(job: FedBaganPipeline, found: FedBaganFindings, progress: Progress) -> Iterator[FedBaganFindings]:
    for done, records in _round_intervals(job, PLAIN_GAN, job.config.plain_rounds, progress):
        found = found.more(PLAIN_GAN, records, _plain_frame(job, done))
        yield found


def _round_intervals(
    job: FedBaganPipeline, model: str, planned: int, progress: Progress
) -> Iterator[tuple[int, tuple[Mapping[str, Any], ...]]]:
    """Holds rounds of training, some at a time: how many there have been, and the records of the latest."""
    done = 0
    while done < planned:
        progress.report(f"rounds of the {model}", done, planned)
        count = min(job.config.report.every, planned - done)
        records = _run_rounds(job, RoundPlan(f"{model}-{done}", model, TRAIN, count, job.config.federation))
        done += count
        yield done, records


def _run_rounds(job: FedBaganPipeline, programme: RoundPlan) -> tuple[Mapping[str, Any], ...]:
    def hold() -> dict[str, Any]:
        return {"held": [asdict(record) for record in job.network.run_rounds(programme)]}

    return tuple(job.journal.once(programme.key, hold)["held"])


def _real_floor(job: FedBaganPipeline) -> dict[str, Any]:
    config, splits = job.config, job.splits
    worth = real_balance(
        splits.train,
        judge=job.judge,
        reference=splits.test,
        rare=config.rare,
        per_class=config.report.per_class,
        seed=job.seed,
    )
    return asdict(worth)


def _frame(job: FedBaganPipeline, number: int) -> dict[str, Any]:
    """Fetches the generator after a round, keeps it, shows and measures what it draws."""

    def measure() -> dict[str, Any]:
        kept = _fetch_checkpoint(job, number)
        images = kept.draw(job.labels, _noise(job, len(job.labels)))
        distance = frechet_distance(job.judge.features(images), job.chosen)
        replace(kept, about=kept.about.model_copy(update={"distance": distance})).write(_checkpoint_path(job, number))
        write_grid(job.folder, number, images[_grid_order(job)])
        return {"round": number, "distance": distance, "worth": _quality(job, images, job.labels)}

    return job.journal.once(f"frame-{number}", measure)


def _plain_frame(job: FedBaganPipeline, number: int) -> dict[str, Any]:
    """The same for the plain GAN, which knows no labels and leaves no checkpoint."""

    def measure() -> dict[str, Any]:
        net = _decoder(job, _state(job, PLAIN_GAN))
        with torch.no_grad():
            images = torch.cat(
                [net(chunk) for chunk in torch.split(_noise(job, OVERSAMPLING * len(job.labels)), CHUNK)]
            )
        images = images.clamp(-1, 1)
        distance = frechet_distance(job.judge.features(images[: len(job.labels)]), job.chosen)
        return {"round": number, "distance": distance, "worth": _quality(job, images, None)}

    return job.journal.once(f"plain-frame-{number}", measure)


def _quality(job: FedBaganPipeline, images: Tensor, labels: Tensor | None) -> dict[str, Any]:
    config = job.config
    return asdict(
        balance(
            images,
            labels,
            judge=job.judge,
            reference=job.splits.test,
            rare=config.rare,
            per_class=config.report.per_class,
        )
    )


def _keep_best(job: FedBaganPipeline, found: FedBaganFindings) -> None:
    best = found.best(GAN)
    if best is not None:
        write_whole(job.folder / BEST_CHECKPOINT, _checkpoint_path(job, best["round"]).read_bytes())


def _install_best(job: FedBaganPipeline) -> ModelState:
    """The GAN as it is, but drawing with the best generator."""
    best = GeneratorCheckpoint.read(job.folder / BEST_CHECKPOINT).generator.state_dict()
    return {**_state(job, GAN), **{AVERAGE_PREFIX + name: value for name, value in best.items()}}


def _fetch_checkpoint(job: FedBaganPipeline, number: int) -> GeneratorCheckpoint:
    """The generator and the Gaussians as the sites have them."""
    card = next(iter(job.capabilities.values()))
    about = CheckpointDescription(
        model=job.config.model, shape=card.shape, classes=card.classes, round=number, distance=0.0
    )
    gaussians = ClassGaussians.of(_state(job, MOMENTS), job.config.gaussians.shrinkage)
    return GeneratorCheckpoint(_decoder(job, _state(job, GAN)), gaussians, about)


def _decoder(job: FedBaganPipeline, state: ModelState) -> Decoder:
    net = Decoder(job.config.model, job.splits.test.shape)
    net.load_state_dict(
        {name.removeprefix(AVERAGE_PREFIX): state[name] for name in state if name.startswith(AVERAGE_PREFIX)}
    )
    return net.eval().requires_grad_(False)


def _state(job: FedBaganPipeline, model: str) -> dict[str, Tensor]:
    """A model as the first site has it; all have the same.

    Raises:
        MethodError: it sends something else.
    """
    site = min(job.capabilities)
    content = job.network.ask(Question("model", {}, {"model": model}, (site,))).by_node[site].get("content")
    if content is None or content.dtype != torch.uint8:
        raise MethodError(f"{site} has sent no model")
    return model_tensors(unpack(content.numpy().tobytes()))


def _noise(job: FedBaganPipeline, count: int) -> Tensor:
    """The same normal vectors at every frame, so that frames differ by their generators alone."""
    return torch.randn(count, job.config.model.latent, generator=generator(job.seed, "samples"))


def _grid_order(job: FedBaganPipeline) -> Tensor:
    """The order in which every column of a grid shows one class."""
    return torch.arange(len(job.labels)).view(-1, job.config.report.per_class).T.flatten()


def _checkpoint_path(job: FedBaganPipeline, number: int) -> Path:
    return job.folder / "checkpoints" / f"round-{number:04d}.safetensors"
