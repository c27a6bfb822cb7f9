"""Draws the samples of one arm: batches of trajectories, each steered by the arm's rule.

Needs only the agents' cards and a way to ask them, so that a guest without data can draw, too.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fednet.api import Ask, Progress
from fednet.diffusion.sampler_config import SamplerConfig
from fednet.diffusion.sampling import sample
from fednet.errors import MethodError
from fednet.methods.common.capabilities import ONE_CONFIGURATION
from fednet.methods.common.capabilities import read_capabilities as read
from fednet.methods.score_inference.config import ArmConfig, SamplesConfig
from fednet.methods.score_inference.federated_score import FederatedScore
from fednet.methods.score_inference.rules import LabelCounts, rule_for
from fednet.methods.score_inference.site import ScoreCapabilities
from fednet.reporting.summary import ParticipationAccount
from fednet.seeds import derive, generator


@dataclass(frozen=True)
class ArmSamples:
    """The samples of one arm.

    Attributes:
        images: (n, c, h, w) float32 in [-1, 1].
        labels: int64 (n,), the labels that were asked for, or None.
        log_p: (agents, n), each sample's log density under each agent, up to a constant a sample; zero under
            rules that do not follow it.
        account: who contributed to which queries.
        orphaned: labels that were asked for at some query while none of those who answered held any.
        evaluations: queries a batch (the largest number over the batches).
        seconds: how long it took.
    """

    images: Tensor
    labels: Tensor | None
    log_p: Tensor
    account: ParticipationAccount
    uncovered_labels: frozenset[int]
    evaluations: int
    seconds: float


def read_score_capabilities(texts: Mapping[str, str]) -> dict[str, ScoreCapabilities]:
    """The agents' cards by name, in sorted order.

    Raises:
        MethodError: there are none, one is not readable, or they do not fit each other.
    """
    alike = dict.fromkeys(("shape", "classes", "conditional", "sde"), ONE_CONFIGURATION)
    return read(texts, ScoreCapabilities, "score-inference", alike)


def requested_labels(samples: SamplesConfig, card: ScoreCapabilities) -> Tensor | None:
    """The labels to draw, int64 (n,), label after label; None for unconditional models.

    Raises:
        MethodError: a label that the agents do not know.
    """
    if not card.conditional:
        return None
    labels = samples.labels or tuple(range(len(card.classes)))
    unknown = [label for label in labels if label >= len(card.classes)]
    if unknown:
        raise MethodError(f"samples.labels has {unknown}; the agents know 0..{len(card.classes) - 1}")
    if samples.per_label is not None:
        return torch.tensor(labels).repeat_interleave(samples.per_label)
    return torch.tensor(labels).repeat(-(-samples.count // len(labels)))[: samples.count].sort().values


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
) -> ArmSamples:
    """Draws one arm.

    Arms with the same seed start from the same noise, batch by batch, and see the same noise on the way.

    Args:
        arm: rule and guidance.
        sampler: how to go from noise to a sample.
        samples: how many, of which labels, in batches of which size.
        name: the arm's name, for the watch.
        ask: reaches the agents.
        capabilities: what the agents say of themselves, by name.
        seed: the run's seed.
        progress: hears of every query.
        latent: noise at t = 1 to start from, (n, c, h, w), instead of noise from the seed.

    Raises:
        MethodError: nobody answers, or the trajectories diverge.
        Stopped: the watch asks for the end.
    """
    began = time.monotonic()
    card = next(iter(capabilities.values()))
    labels = requested_labels(samples, card)
    total = samples.count if labels is None else len(labels)
    _check_latent(latent, (total, *card.shape))
    account, orphaned, drawn = ParticipationAccount.of("query", sorted(capabilities)), set[int](), []
    parts = torch.split(torch.arange(total), samples.batch or total)
    for index, part in enumerate(parts):
        holdings = label_counts_of(capabilities, None if labels is None else labels[part])
        options = {"guidance": arm.guidance, "probe_seed": derive(seed, "probe", index)}
        phase = f"sampling {name}" + (f" ({index + 1}/{len(parts)})" if len(parts) > 1 else "")
        query = FederatedScore(ask, holdings, options, account, progress, phase, orphaned)
        if latent is None:
            start = card.sde.prior((len(part), *card.shape), generator(seed, "latent", index))
        else:
            start = latent[part]
        rule, noise = rule_for(arm.phases(), holdings), generator(seed, "noise", index)
        drawn.append(sample(sampler, query, rule, card.sde, start, random=noise))
    images = torch.cat([part.x for part in drawn])
    if not bool(torch.isfinite(images).all()):
        raise MethodError(f"arm {name}: the samples are not finite; use more steps or a lower guidance")
    return ArmSamples(
        images=images.clamp(-1, 1),
        labels=labels,
        log_p=torch.cat([part.state.log_p for part in drawn], 1),
        account=account,
        uncovered_labels=frozenset(orphaned),
        evaluations=max(part.evaluations for part in drawn),
        seconds=time.monotonic() - began,
    )


def label_counts_of(capabilities: Mapping[str, ScoreCapabilities], labels: Tensor | None) -> LabelCounts:
    """What the agents hold, from their cards."""
    names = tuple(sorted(capabilities))
    return LabelCounts(names, torch.tensor([capabilities[name].histogram for name in names]), labels)


def _check_latent(latent: Tensor | None, shape: tuple[int, ...]) -> None:
    if latent is not None and (tuple(latent.shape) != shape or latent.dtype != torch.float32):
        raise MethodError(f"the latent must be float32 {shape}, not {latent.dtype} {tuple(latent.shape)}")
