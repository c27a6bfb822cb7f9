"""The job of a run: draw every arm, measure it against real pictures, leave grids, figures and numbers.

The same code runs over the bus (`nodes.guest`) and in one process (`fednet.federated.local_network`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from fednet.api import Ask, Network, Progress
from fednet.data.datasets import Splits
from fednet.errors import MeasureError
from fednet.methods.common.measures import measuring_judge, measuring_splits
from fednet.methods.common.measuring_data import unmeasured
from fednet.methods.common.report import with_data
from fednet.methods.score_inference.agreement import AgreementPoint, measure_agreement
from fednet.methods.score_inference.config import ScoreInferenceConfig, require_drawable
from fednet.methods.score_inference.messages import ScoreCapabilities, read_score_capabilities
from fednet.methods.score_inference.models_section import with_models
from fednet.methods.score_inference.prompts import EncodedPrompt, encoded_prompt
from fednet.methods.score_inference.results import ArmResult, summarise, write_arm, write_metrics, write_real_grid
from fednet.methods.score_inference.sampling import sample_arm
from fednet.metrics.evaluation import evaluate, measure_real
from fednet.metrics.judge import Judge
from fednet.reporting.summary import Summary, write_summary


def run_job(config: ScoreInferenceConfig, network: Network, folder: Path, seed: int, progress: Progress) -> Summary:
    """Does the whole job.

    Leaves in `folder`: samples/<arm>/{grid.png,samples.safetensors}, summary.json (as soon as there is an arm to show),
    metrics.json, figures/ and TensorBoard events; samples/real/grid.png where `report.real` is set.

    Args:
        config: what to draw and how.
        network: reaches the sites, and knows their capabilities.
        folder: the run's folder.
        seed: the run's seed.
        progress: told of every step; may ask for the end.

    Raises:
        MethodError: the sites do not fit each other or the data, or none answers.
        Stopped: `progress` asks for the end.
    """
    capabilities = read_score_capabilities(network.capabilities)
    first = next(iter(capabilities.values()))
    require_drawable(config, conditional=first.conditional, prompted=first.expert.prompt_width is not None)
    prompt = encoded_prompt(config.samples.prompt, capabilities, "samples.prompt.models")
    splits = measuring_splits(config, capabilities)
    judge = None
    if splits and config.evaluate.judge:
        judge = measuring_judge(config, splits, seed=seed, progress=progress)
    note, real_grid = "" if splits else unmeasured(config), bool(splits and config.report.real)
    if splits and real_grid:
        write_real_grid(folder, splits.test, capabilities)
    arms: list[ArmResult] = []
    for name in config.arms:
        arms.append(_drawn(config, name, network.ask, capabilities, seed=seed, progress=progress, prompt=prompt))
        write_arm(folder, arms[-1], next(iter(capabilities.values())).classes)
        write_summary(folder, _with_sites(summarise(arms, capabilities, real_grid=real_grid), capabilities, note))
    measured = [_measured(arm, judge, splits, seed, progress) for arm in arms]
    real = measure_real(judge, splits.test) if splits and judge else None
    agreement = _agreement(config, network.ask, capabilities, splits, seed=seed, progress=progress)
    summary = _with_sites(summarise(measured, capabilities, real, agreement, real_grid=real_grid), capabilities, note)
    write_metrics(folder, measured, real, agreement)
    write_summary(folder, summary)
    return summary


def _with_sites(summary: Summary, capabilities: Mapping[str, ScoreCapabilities], note: str) -> Summary:
    """A summary with what the sites' data and models are."""
    return with_models(with_data(summary, capabilities, note), capabilities)


def _drawn(
    config: ScoreInferenceConfig,
    name: str,
    ask: Ask,
    capabilities: Mapping[str, ScoreCapabilities],
    *,
    seed: int,
    progress: Progress,
    prompt: EncodedPrompt | None,
) -> ArmResult:
    arm, sampler, size = config.arms[name], config.sampler_of(name), config.samples
    samples = sample_arm(
        arm, sampler, size, name=name, ask=ask, capabilities=capabilities, seed=seed, progress=progress, prompt=prompt
    )  # fmt: skip
    return ArmResult(name, arm, sampler, samples)


def _agreement(
    config: ScoreInferenceConfig,
    ask: Ask,
    capabilities: Mapping[str, ScoreCapabilities],
    splits: Splits | None,
    *,
    seed: int,
    progress: Progress,
) -> tuple[AgreementPoint, ...]:
    """How far the sites' scores agree at real pictures, where there are any to compare them at."""
    if splits is None:
        return ()
    return measure_agreement(ask, capabilities, splits.test, config.evaluate.agreement, seed=seed, progress=progress)


def _measured(arm: ArmResult, judge: Judge | None, splits: Splits | None, seed: int, progress: Progress) -> ArmResult:
    """The arm with its evaluation, or with the reason why it has none: its samples are worth keeping anyway."""
    if judge is None or splits is None:
        return arm
    progress.report("measuring", 0, 1)
    try:
        evaluation = evaluate(arm.samples.images, arm.samples.labels, judge=judge, splits=splits, seed=seed)
    except MeasureError as error:
        return replace(arm, unmeasured=str(error))
    return replace(arm, evaluation=evaluation)
