"""A visitor's wish: some samples, drawn by agents of which it knows nothing but their cards."""

from __future__ import annotations

from pydantic import TypeAdapter

from fednet.api import Network, Progress
from fednet.diffusion.sampler_config import SamplerConfig
from fednet.errors import MethodError
from fednet.methods.score_inference.arm_sampling import ArmSamples, read_score_capabilities, sample_arm
from fednet.methods.score_inference.config import ArmConfig, SamplesConfig
from fednet.methods.score_inference.sample_request import ScoreSampleRequest
from fednet.reporting.samples import SampleBatch

_SAMPLER: TypeAdapter[SamplerConfig] = TypeAdapter(SamplerConfig)


def sample(network: Network, request: ScoreSampleRequest, progress: Progress) -> SampleBatch:
    """Draws what a visitor wishes for.

    Raises:
        MethodError: the agents cannot draw that, or none of them answers.
        Stopped: the watch asks for the end.
    """
    read = read_score_capabilities(network.capabilities)
    first = next(iter(read.values()))
    if not first.conditional and (request.labels is not None or request.rule == "label-count"):
        raise MethodError("these agents were trained without labels: ask without labels, and not by label-count")
    amount = {"per_label": request.count, "labels": request.labels} if first.conditional else {"total": request.count}
    samples = sample_arm(
        ArmConfig(rule=request.rule, guidance=request.guidance),
        _SAMPLER.validate_python({"kind": request.sampler}),
        SamplesConfig.model_validate(amount),
        name=request.rule,
        ask=network.ask,
        capabilities=read,
        seed=request.seed,
        progress=progress,
    )
    return SampleBatch(samples.images, samples.labels, _notes(samples))


def _notes(samples: ArmSamples) -> tuple[str, ...]:
    """A line an agent: in how many of the steps it had a part, and why it ceased to."""
    account, lines = samples.account, []
    for name, tally in account.nodes.items():
        fate = f"; lost at query {account.lost[name].step}: {account.lost[name].reason}" if name in account.lost else ""
        lines.append(f"{name} answered {tally.contributed} of {account.steps} queries{fate}")
    if samples.uncovered_labels:
        lines.append(
            f"nobody who answered holds the labels {sorted(samples.uncovered_labels)}: theirs are a plain mean"
        )
    return (*lines, f"{len(samples.images)} samples in {samples.seconds:.1f} s")
