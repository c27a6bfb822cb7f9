"""Draws samples: batches of trajectories of one arm, each steered by the arm's rule; for a run's job and for guests.

Needs only the sites' capabilities and a way to ask them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from pydantic import TypeAdapter
from torch import Tensor

from fednet.api import Ask, Network, Progress
from fednet.data.classes import labels_of
from fednet.diffusion.combination import LabelCounts
from fednet.diffusion.sampler_config import SamplerConfig
from fednet.diffusion.sampling import sample as solve
from fednet.diffusion.trajectory import SampledTrajectory
from fednet.errors import MethodError
from fednet.methods.common.inputs import described
from fednet.methods.score_inference.config import ArmConfig, PromptConfig, SamplesConfig
from fednet.methods.score_inference.federated_score import FederatedScore
from fednet.methods.score_inference.in_flight import in_flight
from fednet.methods.score_inference.messages import ScoreCapabilities, read_score_capabilities
from fednet.methods.score_inference.prompts import EncodedPrompt, encoded_prompt
from fednet.methods.score_inference.rules import rule_for
from fednet.methods.score_inference.sample_request import ScoreSampleRequest
from fednet.methods.score_inference.traffic import Traffic
from fednet.reporting.samples import SampleBatch
from fednet.reporting.summary import ParticipationAccount
from fednet.seeds import derive, generator

MAX_NAMED = 20
"""Samples that a note names."""
_SAMPLER: TypeAdapter[SamplerConfig] = TypeAdapter(SamplerConfig)


@dataclass(frozen=True)
class ArmSamples:
    """The samples of one arm.

    Attributes:
        images: (n, c, h, w) float32 in [-1, 1].
        labels: int64 (n,), the requested labels, or None.
        log_p: (sites, n), each sample's log density under each site's model, up to a constant a sample; zero under
            rules that do not follow it.
        account: who contributed to which queries.
        uncovered_labels: requested labels of which, at some query, no site that answered had an image.
        redrawn: bool (n,), the samples that were drawn again because they had followed a site that was lost on the way.
        without: the sites that those were drawn again without.
        evaluations: queries a batch (the largest number over the batches).
        seconds: how long it took.
        traffic: what each site was sent and has answered.
    """

    images: Tensor
    labels: Tensor | None
    log_p: Tensor
    account: ParticipationAccount
    uncovered_labels: frozenset[int]
    redrawn: Tensor
    without: tuple[str, ...]
    evaluations: int
    seconds: float
    traffic: Traffic = field(default_factory=Traffic)


def sample(
    network: Network, request: ScoreSampleRequest, progress: Progress, *, prompt: PromptConfig | None = None
) -> SampleBatch:
    """Draws what a guest asks for.

    Args:
        network: reaches the sites.
        request: what to draw.
        progress: told of every query; may ask for the end.
        prompt: for sites whose models draw from prompts.

    Raises:
        MethodError: the sites cannot draw that, or none of them answers.
        Stopped: `progress` asks for the end.
    """
    capabilities = read_score_capabilities(network.capabilities)
    first = next(iter(capabilities.values()))
    arm = ArmConfig(rule=request.rule, guidance=request.guidance)
    sampler = _SAMPLER.validate_python({"kind": request.sampler})
    if not first.conditional and (request.labels is not None or arm.needs_labels(prompted=prompt is not None)):
        raise MethodError("the sites' models are unconditional: ask without labels, guidance and rules for labels")
    if refusal := arm.refused_by(sampler):
        raise MethodError(refusal)
    encoded = encoded_prompt(prompt, capabilities, "--models")
    size = {"per_label": request.count, "labels": request.labels} if first.conditional else {"total": request.count}
    samples = sample_arm(
        arm,
        sampler,
        SamplesConfig.model_validate(size),
        name=request.rule.kind,
        ask=network.ask,
        capabilities=capabilities,
        seed=request.seed,
        progress=progress,
        prompt=encoded,
    )
    return SampleBatch(samples.images, samples.labels, _notes(samples, first.classes), first.classes)


def sample_arm(
    arm: ArmConfig,
    sampler: SamplerConfig,
    samples: SamplesConfig,
    *,
    name: str,
    ask: Ask,
    capabilities: Mapping[str, ScoreCapabilities],
    seed: int,
    progress: Progress,
    latent: Tensor | None = None,
    prompt: EncodedPrompt | None = None,
) -> ArmSamples:
    """Draws one arm.

    Where a site is lost on the way, samples that a rule cannot finish without it are drawn again without it (see
    `fednet.methods.score_inference.rules.mixture`).

    Arms with the same seed start from the same noise, batch by batch, and see the same noise on the way.

    Args:
        arm: rule and guidance.
        sampler: how to go from noise to a sample.
        samples: how many, of which labels, in batches of which size.
        name: the arm's name, for progress and errors.
        ask: reaches the sites.
        capabilities: of the sites, by name.
        seed: the run's seed.
        progress: told of every query; may ask for the end.
        latent: noise at t = 1 to start from, (n, c, h, w), instead of noise from the seed.
        prompt: what sites whose models draw from prompts are told, and what decodes their latents.

    Raises:
        MethodError: no site answers, or the trajectories diverge.
        Stopped: `progress` asks for the end.
    """
    began, first = time.monotonic(), next(iter(capabilities.values()))
    labels = requested_labels(samples, first)
    total = samples.count if labels is None else len(labels)
    _require_latent(latent, (total, *first.shape))
    uncovered_labels = set[int]()
    words = None if prompt is None else prompt.embedding
    parts = torch.split(torch.arange(total), samples.batch or total)

    accounts = [ParticipationAccount.of("query", sorted(capabilities)) for _ in parts]
    traffic = [Traffic() for _ in parts]

    def draw(shown: Progress, part: Tensor, lost: Tensor | None, *index: int) -> SampledTrajectory:
        """The samples at the places `part`; a batch has the index (i), its k-th repetition (i, k)."""
        counts = label_counts_of(capabilities, None if labels is None else labels[part])
        options = {"guidance": arm.guidance, "probe_seed": derive(seed, "probe", *index)}
        score = FederatedScore(
            ask, counts, options, accounts[index[0]], shown, f"sampling {name}", first.sde, uncovered_labels, words,
            first.expert.reach, traffic[index[0]],
        )  # fmt: skip
        if latent is None or len(index) > 1:
            start = first.sde.prior((len(part), *first.shape), generator(seed, "latent", *index))
        else:
            start = latent[part]
        rule, noise = rule_for(arm.phases(), counts), generator(seed, "noise", *index)
        return solve(sampler, score, rule, first.sde, start, random=noise, lost=lost)

    def work(index: int, shown: Progress) -> _Batch:
        return _whole_batch(partial(draw, shown), parts[index], index, seed)

    works = [partial(work, index) for index in range(len(parts))]
    drawn = in_flight(works, samples.in_flight, f"sampling {name}", progress)
    images = torch.cat([part.x for part in drawn])
    if not bool(torch.isfinite(images).all()):
        raise MethodError(f"arm {name}: the samples are not finite: use more steps or a lower guidance")
    return ArmSamples(
        images=images.clamp(-1, 1) if prompt is None else prompt.decode(images),
        labels=labels,
        log_p=torch.cat([part.log_p for part in drawn], 1),
        account=ParticipationAccount.joined(accounts),
        uncovered_labels=frozenset(uncovered_labels),
        redrawn=torch.cat([part.redrawn for part in drawn]),
        without=tuple(name for k, name in enumerate(sorted(capabilities)) if any(bool(p.without[k]) for p in drawn)),
        evaluations=max(part.evaluations for part in drawn),
        seconds=time.monotonic() - began,
        traffic=Traffic.joined(traffic),
    )


@dataclass
class _Batch:
    """The samples of one batch, and which were drawn again, without whom; see `ArmSamples`."""

    x: Tensor
    log_p: Tensor
    redrawn: Tensor
    without: Tensor
    evaluations: int


def _whole_batch(draw: Callable[..., SampledTrajectory], part: Tensor, index: int, seed: int) -> _Batch:
    """Draws a batch, and again what does not survive the loss of a site, without the sites that were lost."""
    first = draw(part, None, index)
    lost, survival = first.state.lost, first.state.survival
    batch = _Batch(first.x, first.state.log_p, survival < 0, torch.zeros_like(lost), first.evaluations)
    rows, attempt = torch.arange(len(part)), 0
    while len(rows := rows[survival <= torch.rand(len(rows), generator=generator(seed, "keep", index, attempt))]):
        attempt, batch.without = attempt + 1, lost
        again = draw(part[rows], lost, index, attempt)
        batch.x[rows], batch.log_p[:, rows], batch.redrawn[rows] = again.x, again.state.log_p, True
        batch.evaluations += again.evaluations
        lost, survival = again.state.lost, again.state.survival
    return batch


def requested_labels(samples: SamplesConfig, site: ScoreCapabilities) -> Tensor | None:
    """The labels to draw, int64 (n,), label after label; None for unconditional models.

    Raises:
        MethodError: a label that the sites do not know.
    """
    if not site.conditional:
        return None
    labels = labels_of(samples.labels or site.classes, site.classes, "samples.labels")
    if samples.per_label is not None:
        return torch.tensor(labels).repeat_interleave(samples.per_label)
    return torch.tensor(labels).repeat(-(-samples.count // len(labels)))[: samples.count].sort().values


def label_counts_of(capabilities: Mapping[str, ScoreCapabilities], labels: Tensor | None) -> LabelCounts:
    """The sites' images by class, as their capabilities say; without labels all of them."""
    names = tuple(sorted(capabilities))
    sites = [capabilities[name] for name in names]
    counts = [(site.pictures,) if labels is None else site.histogram for site in sites]
    return LabelCounts(names, torch.tensor(counts), labels)


def _require_latent(latent: Tensor | None, shape: tuple[int, ...]) -> None:
    if latent is not None and (tuple(latent.shape) != shape or latent.dtype != torch.float32):
        raise MethodError(f"the latent must be float32 {shape}, got {described(latent)}")


def redrawn_note(samples: ArmSamples) -> str:
    """Which samples were drawn again, and why."""
    numbers = samples.redrawn.nonzero().flatten().tolist()
    some = ", ".join(map(str, numbers[:MAX_NAMED])) + (", ..." if len(numbers) > MAX_NAMED else "")
    return (
        f"{len(numbers)} of {len(samples.images)} samples (numbers {some}) were drawn again without "
        f"{', '.join(samples.without)}, which they had followed until it was lost or late"
    )


def _notes(samples: ArmSamples, classes: Sequence[str]) -> tuple[str, ...]:
    """A line a site: how many queries it answered, and why it stopped."""
    account, lines = samples.account, []
    for name, node in account.nodes.items():
        lost = f"; lost at query {account.lost[name].step}: {account.lost[name].reason}" if name in account.lost else ""
        lines.append(f"{name} answered {node.contributed} of {account.steps} queries{lost}")
    if samples.without:
        lines.append(redrawn_note(samples))
    if samples.uncovered_labels:
        names = ", ".join(classes[label] for label in sorted(samples.uncovered_labels))
        lines.append(f"no site that answered has images of {names}: a plain mean there")
    return (*lines, f"{len(samples.images)} samples in {samples.seconds:.1f} s")
