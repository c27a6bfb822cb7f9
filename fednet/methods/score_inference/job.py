"""The job of a run: draws every arm, measures it beside real pictures, and leaves the results in the run's folder.

Knows how to ask and not whom; the same code runs over the bus and with `local_ask` in one process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from fednet.api import Ask, Network, Progress, SiteContext
from fednet.data.datasets import Splits, load
from fednet.data.site_data import own_data
from fednet.errors import MeasureError
from fednet.methods.common.capabilities import require_matching_data
from fednet.methods.score_inference.agreement import measure_agreement
from fednet.methods.score_inference.arm_sampling import ArmSamples, read_score_capabilities, sample_arm
from fednet.methods.score_inference.config import ScoreInferenceConfig
from fednet.methods.score_inference.results import ArmResult, summarise, write_metrics, write_real_grid, write_samples
from fednet.methods.score_inference.site import ScoreCapabilities, ScoreInferenceSite
from fednet.metrics.evaluation import Evaluation, evaluate, measure_real
from fednet.metrics.judge import Judge, train_judge
from fednet.reporting.summary import Summary, write_summary


def make_site(
    config: ScoreInferenceConfig, site: SiteContext, own: Mapping[str, Any] | None = None
) -> ScoreInferenceSite:
    """Makes the side that holds data and a model.

    Args:
        config: the run's configuration.
        site: where the agent lives.
        own: what the site says for itself: `data`, keys that replace those of `config.data`. A site with data of
            its own keeps all of its training pictures; without, it gets its share of the run's partition.

    Raises:
        DataError: the site's own data is not configured properly or not there.
    """
    data, share = own_data(config.data, own)
    return ScoreInferenceSite(config.model_copy(update={"data": data}), site, share)


def run_job(config: ScoreInferenceConfig, network: Network, folder: Path, seed: int, progress: Progress) -> Summary:
    """Does the whole job.

    Leaves in `folder`: samples/<arm>/{grid.png,samples.safetensors}, samples/real/grid.png, summary.json
    (as soon as there is an arm to show), metrics.json, figures/ and TensorBoard events.

    Args:
        config: what to draw and how.
        network: reaches the agents, and knows their cards.
        folder: the run's folder.
        seed: the run's seed.
        progress: hears of every step, and asks for the end.

    Raises:
        MethodError: the agents do not fit each other or the data, or nobody answers.
        Stopped: the watch asks for the end.
    """
    read = read_score_capabilities(network.capabilities)
    splits = require_matching_data(load(config.data), read)
    write_real_grid(folder, splits.test, read)
    judge = train_judge(splits.judge, seed=seed, progress=progress) if config.evaluate.judge else None
    arms: list[ArmResult] = []
    for name in config.arms:
        arms.append(_arm(config, name, network.ask, read, seed=seed, progress=progress))
        write_samples(folder, arms[-1])
        write_summary(folder, summarise(arms, read))
    measured = [_measured(arm, judge, splits, seed, progress) for arm in arms]
    real = measure_real(judge, splits.test) if judge else None
    surveyed = measure_agreement(
        network.ask, read, splits.test, config.evaluate.agreement, seed=seed, progress=progress
    )
    summary = summarise(measured, read, real, surveyed)
    write_metrics(folder, measured, real, surveyed)
    write_summary(folder, summary)
    return summary


def _arm(
    config: ScoreInferenceConfig,
    name: str,
    ask: Ask,
    capabilities: Mapping[str, ScoreCapabilities],
    *,
    seed: int,
    progress: Progress,
) -> ArmResult:
    arm, sampler = config.arms[name], config.sampler_of(name)
    samples: ArmSamples = sample_arm(
        arm, sampler, config.samples, name=name, ask=ask, capabilities=capabilities, seed=seed, progress=progress
    )
    return ArmResult(name, arm, sampler, samples)


def _measured(arm: ArmResult, judge: Judge | None, splits: Splits, seed: int, progress: Progress) -> ArmResult:
    """The arm with its evaluation, or with the reason why it has none: its samples are worth keeping anyway."""
    if judge is None:
        return arm
    progress.report("measuring", 0, 1)
    images: Tensor = arm.samples.images
    try:
        found: Evaluation = evaluate(images, arm.samples.labels, judge=judge, splits=splits, seed=seed)
    except MeasureError as error:
        return replace(arm, unmeasured=str(error))
    return replace(arm, evaluation=found)
