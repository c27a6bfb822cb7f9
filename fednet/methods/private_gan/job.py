"""The job of a run: rounds of the GAN with samples between them, rounds of a classifier, and the audit.

Asks the sites before every stretch of rounds how many the budget still buys, and stops where it is spent.
Measurements are kept in a journal. The same code runs over the bus and in one process.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from fednet.api import Network, Progress, Question, RoundPlan, RoundRecord
from fednet.data.datasets import ImageSet
from fednet.errors import MethodError
from fednet.methods.common.inputs import described
from fednet.methods.common.job import JudgedContext, run_stages, summarise_each
from fednet.methods.common.json_tensor import ask_for_json
from fednet.methods.common.measures import measuring_splits
from fednet.methods.private_gan.config import PrivateGanConfig
from fednet.methods.private_gan.findings import PrivateGanFindings, PrivateGanFrame
from fednet.methods.private_gan.messages import (
    AUDIT,
    CLASSIFIER,
    DRAW,
    GAN,
    STATUS,
    TRAIN,
    VALIDATE,
    PrivacyStatement,
    PrivateGanCapabilities,
    read_private_gan_capabilities,
)
from fednet.methods.private_gan.results import summarise, write_metrics
from fednet.metrics.evaluation import evaluate
from fednet.metrics.membership_inference import MembershipAttack
from fednet.reporting.animation import animate, write_grid
from fednet.reporting.samples import SampleBatch, write_samples
from fednet.reporting.summary import Summary, write_summary
from fednet.seeds import generator

Steps = Iterator[PrivateGanFindings]
"""The findings after every step of a stage."""


def run_job(config: PrivateGanConfig, network: Network, folder: Path, seed: int, progress: Progress) -> Summary:
    """Does the whole job.

    Leaves in `folder`: summary.json (after every grid), metrics.json, samples/ with grids and an animated GIF,
    journal.jsonl. A run that is started again in its folder goes on where it was.

    Args:
        config: rounds, privacy and measures.
        network: reaches the sites, and knows their capabilities.
        folder: the run's folder.
        seed: the run's seed; privacy noise does not come from it.
        progress: told of every step; may ask for the end.

    Raises:
        MethodError: the sites do not fit the data, or none answers.
        Stopped: `progress` asks for the end.
    """
    capabilities = read_private_gan_capabilities(network.capabilities)
    splits = measuring_splits(config, capabilities)
    context = PrivateGanContext.start(config, network, capabilities, splits, folder, seed=seed, progress=progress)

    def shown(latest: PrivateGanFindings) -> Summary:
        return context.with_data(summarise(config, latest, context.sites))

    start = PrivateGanFindings(privacy=_privacy(context, {name: site.privacy for name, site in capabilities.items()}))
    steps = run_stages((_gan, _classifier, _audited), context, start, progress)
    findings = summarise_each(steps, shown, folder, start)
    write_metrics(folder, config, findings)
    summary = shown(findings)
    write_summary(folder, summary)
    return summary


@dataclass
class PrivateGanContext(JudgedContext[PrivateGanConfig, PrivateGanCapabilities]):
    """What all stages need, and the latent vectors that every grid is generated from."""

    def __post_init__(self) -> None:
        super().__post_init__()
        latent = self.capabilities[self.first_site].latent
        self.latents = torch.randn(self.config.report.samples, latent, generator=generator(self.seed, "samples"))


def _gan(context: PrivateGanContext, findings: PrivateGanFindings, progress: Progress) -> Steps:
    planned, done = context.config.rounds, 0
    if planned:
        findings = replace(findings, frames=(_frame(context, 0),))
        yield findings
    while done < planned and not findings.stopped:
        progress.report("rounds", done, planned, **_epsilons(findings))
        before, (findings, records) = done, (yield from _stretch(context, findings, GAN, done, planned))
        findings = replace(findings, rounds=(*findings.rounds, *records))
        yield findings
        done += len(records)
        if done > before:
            frames = (*findings.frames, _frame(context, done))
            findings = replace(findings, frames=frames)
            animate(context.folder, [frame.round for frame in frames])
            yield findings


def _classifier(context: PrivateGanContext, findings: PrivateGanFindings, progress: Progress) -> Steps:
    planned, done = context.config.classifier.rounds, 0
    while done < planned and not findings.stopped:
        progress.report("rounds of the classifier", done, planned, **_epsilons(findings))
        findings, records = yield from _stretch(context, findings, CLASSIFIER, done, planned)
        done += len(records)
        findings = replace(findings, classifier_rounds=(*findings.classifier_rounds, *records))
        yield findings
    if done and context.measures:
        yield replace(findings, accuracy=_accuracy(context, context.measures.splits.test))


def _stretch(
    context: PrivateGanContext, findings: PrivateGanFindings, model: str, done: int, planned: int
) -> Generator[PrivateGanFindings, None, tuple[PrivateGanFindings, tuple[RoundRecord, ...]]]:
    """Holds some rounds, as many as enough sites can pay for, and asks what they have cost.

    Whatever ends the run, its summary claims no less than the ledgers: before the rounds it counts them in full, and
    afterwards, or when they fail, it has what the sites say that they have spent.
    """
    key, wanted = f"{model}-{done}", min(context.config.report.every, planned - done)
    possible = context.journal.once(f"{key}-possible", int, lambda: _affordable_rounds(context, model, wanted))
    records: tuple[RoundRecord, ...] = ()
    if possible:
        findings = replace(findings, privacy=_privacy(context, findings.privacy, model, possible))
        yield findings
        try:
            records = context.rounds(RoundPlan(key, model, TRAIN, possible, context.config.federation))
        except Exception:
            with suppress(Exception):  # where nobody answers any more, the bound stands
                findings = replace(findings, privacy=_privacy(context, findings.privacy))
            yield findings
            raise
    findings = replace(findings, privacy=_privacy(context, findings.privacy))
    if len(records) < wanted:
        why = f"the privacy budget is spent after {done + len(records)} rounds of the {model}"
        findings = replace(findings, stopped=why)
    return findings, records


def _affordable_rounds(context: PrivateGanContext, model: str, wanted: int) -> int:
    """How many rounds enough sites for a quorum can still pay for."""
    replies = ask_for_json(context.network, Question(STATUS, {}, {"model": model, "rounds": wanted}), "status")
    rounds = sorted((int(status["rounds"]) for status in replies.values()), reverse=True)
    quorum = context.config.federation.quorum
    if len(rounds) < quorum:
        raise MethodError(f"{len(rounds)} sites answer and a round needs {quorum}: start more sites")
    return rounds[quorum - 1]


def _privacy(
    context: PrivateGanContext, known: Mapping[str, PrivacyStatement], model: str = GAN, ahead: int = 0
) -> dict[str, PrivacyStatement]:
    """The sites' statements as they are now, with so many rounds of a model ahead; where one is gone, its last one."""
    replies = ask_for_json(context.network, Question(STATUS, {}, {"model": model, "ahead": ahead}), "status")
    stated = {name: PrivacyStatement.model_validate(status["privacy"]) for name, status in replies.items()}
    return {**known, **stated}


def _frame(context: PrivateGanContext, number: int) -> PrivateGanFrame:
    """Generates samples after a round, shows the first and measures all."""

    def measure() -> PrivateGanFrame:
        images = _samples(context, fresh=number == 0)
        write_grid(context.folder, number, images)
        file = context.folder / "samples" / f"{'untrained' if number == 0 else 'last'}.safetensors"
        write_samples(file, SampleBatch(images, None))
        with_what = context.measures
        if with_what is None:
            return PrivateGanFrame(number)
        evaluation = evaluate(images, None, judge=with_what.judge, splits=with_what.splits, seed=context.seed)
        return PrivateGanFrame(number, evaluation)

    return context.journal.once(f"frame-{number}", PrivateGanFrame, measure)


def _samples(context: PrivateGanContext, *, fresh: bool) -> Tensor:
    site = context.first_site
    expected = (len(context.latents), *context.capabilities[site].shape)
    question = Question(DRAW, {"latents": context.latents}, {"fresh": fresh}, (site,))
    images = context.network.ask(question).by_node[site].get("images")
    if images is None or tuple(images.shape) != expected:
        raise MethodError(f"{site} sent images {described(images)}, expected {expected}")
    return images


def _audited(context: PrivateGanContext, findings: PrivateGanFindings, progress: Progress) -> Steps:
    permitting = context.permitting("disclose.audit")

    def measure() -> dict[str, MembershipAttack]:
        replies = ask_for_json(context.network, Question(AUDIT, {}, {}, permitting), "audit")
        return {name: MembershipAttack(**reply) for name, reply in replies.items()}

    if context.config.rounds and permitting:
        progress.report("audit", 0, 1)
        yield replace(findings, audit=context.journal.once("audit", dict[str, MembershipAttack], measure))


def _accuracy(context: PrivateGanContext, test: ImageSet) -> float:
    site = context.first_site
    question = Question(VALIDATE, {"images": test.images, "labels": test.labels}, {}, (site,))
    right, total = context.network.ask(question).by_node[site]["right"].tolist()
    return float(right / total)


def _epsilons(findings: PrivateGanFindings) -> dict[str, float]:
    """The largest epsilons of all sites, for the progress line."""
    rdp = [one.epsilon_rdp for one in findings.privacy.values() if one.epsilon_rdp is not None]
    prv = [one.epsilon_prv for one in findings.privacy.values() if one.epsilon_prv is not None]
    return {"epsilon_rdp": max(rdp), "epsilon_prv": max(prv)} if rdp and prv else {}
