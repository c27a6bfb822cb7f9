"""The steps of the job: rounds of the GAN with samples between them, rounds of a classifier, and the audit.

Asks the sites before every stretch of rounds how many the budget still buys, and stops where it is spent. What was
measured is kept in a journal, so that a run that was stopped measures nothing twice. Knows how to ask and not whom.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from fednet.api import Progress, Question, RoundPlan
from fednet.errors import MethodError
from fednet.files import write_whole
from fednet.methods.common.job import PipelineContext, run_stages
from fednet.methods.common.json_tensor import from_json_tensor
from fednet.methods.private_gan.config import PrivateGanConfig
from fednet.methods.private_gan.messages import CLASSIFIER, GAN, TRAIN, PrivacyStatement, PrivateGanCapabilities
from fednet.metrics.evaluation import evaluate
from fednet.reporting.animation import animate, write_grid
from fednet.seeds import generator


@dataclass(frozen=True)
class PrivateGanFindings:
    """What there is so far.

    Attributes:
        frames: by grid of samples: the round, its Frechet distance, floor and Inception Score.
        rounds: the records of the GAN's rounds.
        lessons: the records of the classifier's rounds.
        privacy: every site's card as it is now.
        audit: what membership attacks reach, by site.
        accuracy: of the classifier on test pictures, in [0, 1].
        stopped: why fewer rounds than planned were held.
    """

    frames: tuple[Mapping[str, Any], ...] = ()
    rounds: tuple[Mapping[str, Any], ...] = ()
    classifier_rounds: tuple[Mapping[str, Any], ...] = ()
    privacy: Mapping[str, PrivacyStatement] = field(default_factory=dict)
    audit: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    accuracy: float | None = None
    stopped: str = ""


class PrivateGanPipeline(PipelineContext[PrivateGanConfig, PrivateGanCapabilities]):
    """What all steps need, and the latent vectors that every grid is drawn from."""

    def __post_init__(self) -> None:
        super().__post_init__()
        wide = next(iter(self.capabilities.values())).latent
        self.latents = torch.randn(self.config.report.samples, wide, generator=generator(self.seed, "samples"))


def pipeline(job: PrivateGanPipeline, progress: Progress) -> Iterator[PrivateGanFindings]:
    """Does the job, and says after every step what there is.

    Raises:
        MethodError: nobody answers, or a round cannot be held.
        Stopped: the watch asks for the end.
    """
    found = PrivateGanFindings(privacy={name: card.privacy for name, card in job.capabilities.items()})
    yield from run_stages((_gan, _classifier, _audit), job, found, progress)


def _gan(job: PrivateGanPipeline, found: PrivateGanFindings, progress: Progress) -> Iterator[PrivateGanFindings]:
    planned, every = job.config.rounds, job.config.report.every
    if planned:
        found = replace(found, frames=(_frame(job, 0),))
        yield found
    done = 0
    while done < planned and not found.stopped:
        progress.report("rounds", done, planned, **_epsilons(found))
        held, found = _round_interval(job, found, GAN, done, min(every, planned - done))
        done += len(held)
        if held:
            found = replace(found, rounds=(*found.rounds, *held), frames=(*found.frames, _frame(job, done)))
            animate(job.folder, [int(frame["round"]) for frame in found.frames])
        yield found


def _classifier(job: PrivateGanPipeline, found: PrivateGanFindings, progress: Progress) -> Iterator[PrivateGanFindings]:
    planned, done = job.config.classifier.rounds, 0
    while done < planned and not found.stopped:
        progress.report("rounds of the classifier", done, planned, **_epsilons(found))
        held, found = _round_interval(job, found, CLASSIFIER, done, min(job.config.report.every, planned - done))
        done += len(held)
        found = replace(found, classifier_rounds=(*found.classifier_rounds, *held))
        yield found
    if done:
        yield replace(found, accuracy=_accuracy(job))


def _round_interval(
    job: PrivateGanPipeline, found: PrivateGanFindings, model: str, done: int, wanted: int
) -> tuple[list[dict[str, Any]], PrivateGanFindings]:
    """Holds some rounds, as many as enough sites can pay for, and sees what they have cost."""
    key = f"{model}-{done}"

    possible = job.journal.once(f"{key}-possible", lambda: {"rounds": _affordable_rounds(job, model, wanted)})["rounds"]

    def hold() -> dict[str, Any]:
        if not possible:
            return {"held": []}
        closed = job.network.run_rounds(RoundPlan(key, model, TRAIN, possible, job.config.federation))
        return {"held": [asdict(record) for record in closed]}

    held: list[dict[str, Any]] = job.journal.once(key, hold)["held"]
    found = replace(found, privacy=_privacy(job))
    if len(held) < wanted:
        why = f"the privacy budget is spent after {done + len(held)} rounds of the {model}"
        found = replace(found, stopped=why)
    return held, found


def _affordable_rounds(job: PrivateGanPipeline, model: str, wanted: int) -> int:
    """How many rounds enough sites for a quorum can still pay for."""
    told = _asked(job, Question("status", {}, {"model": model, "rounds": wanted}), "status")
    rounds = sorted((int(one["rounds"]) for one in told.values()), reverse=True)
    quorum = job.config.federation.quorum
    if len(rounds) < quorum:
        raise MethodError(f"{len(rounds)} sites answer and a round needs {quorum}")
    return rounds[quorum - 1]


def _privacy(job: PrivateGanPipeline) -> dict[str, PrivacyStatement]:
    told = _asked(job, Question("status", {}), "status")
    return {name: PrivacyStatement.model_validate(one["privacy"]) for name, one in told.items()}


def _frame(job: PrivateGanPipeline, number: int) -> dict[str, Any]:
    """Draws samples after a round, shows the first and measures all."""

    def measure() -> dict[str, Any]:
        images = _draw_samples(job, fresh=number == 0)
        write_grid(job.folder, number, images)
        write_whole(
            job.folder / "samples" / f"{'untrained' if number == 0 else 'last'}.safetensors", save({"images": images})
        )
        worth = evaluate(images, None, judge=job.judge, splits=job.splits, seed=job.seed)
        return {"round": number, **asdict(worth)}

    return job.journal.once(f"frame-{number}", measure)


def _draw_samples(job: PrivateGanPipeline, *, fresh: bool) -> Tensor:
    question = Question("draw", {"latents": job.latents}, {"fresh": fresh}, (min(job.capabilities),))
    images = job.network.ask(question).by_node[min(job.capabilities)].get("images")
    if images is None or tuple(images.shape) != (len(job.latents), *job.splits.test.shape):
        raise MethodError(f"{min(job.capabilities)} has drawn nothing that fits")
    return images


def _audit(job: PrivateGanPipeline, found: PrivateGanFindings, progress: Progress) -> Iterator[PrivateGanFindings]:
    def measure() -> dict[str, Any]:
        inputs = {"strangers": job.splits.test.images, "drawn": _draw_samples(job, fresh=False)}
        return _asked(job, Question("audit", inputs), "audit")

    if job.config.rounds and job.config.report.audit:
        progress.report("audit", 0, 1)
        yield replace(found, audit=job.journal.once("audit", measure))


def _accuracy(job: PrivateGanPipeline) -> float:
    test = job.splits.test
    question = Question("validate", {"images": test.images, "labels": test.labels}, {}, (min(job.capabilities),))
    right, there = job.network.ask(question).by_node[min(job.capabilities)]["right"].tolist()
    return float(right / there)


def _asked(job: PrivateGanPipeline, question: Question, key: str) -> dict[str, dict[str, Any]]:
    return {name: from_json_tensor(reply.get(key)) for name, reply in job.network.ask(question).by_node.items()}


def _epsilons(found: PrivateGanFindings) -> dict[str, float]:
    """The largest epsilons of all sites, for the progress line."""
    rdp = [card.epsilon_rdp for card in found.privacy.values() if card.epsilon_rdp is not None]
    prv = [card.epsilon_prv for card in found.privacy.values() if card.epsilon_prv is not None]
    return {"epsilon_rdp": max(rdp), "epsilon_prv": max(prv)} if rdp and prv else {}
