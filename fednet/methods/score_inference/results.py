"""What a run leaves behind: grids, samples, figures, the table of results. Measures nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from matplotlib.figure import Figure as Plot

from fednet.data.datasets import ImageSet
from fednet.diffusion.sampler_config import ODE, SamplerConfig
from fednet.images import by_label, save_png
from fednet.methods.common.report import non_empty
from fednet.methods.score_inference.agreement import AgreementPoint
from fednet.methods.score_inference.config import ArmConfig
from fednet.methods.score_inference.messages import ScoreCapabilities
from fednet.methods.score_inference.sampling import ArmSamples, redrawn_note
from fednet.methods.score_inference.traffic import traffic_section
from fednet.metrics.evaluation import Evaluation, RealReference
from fednet.reporting.record import RunRecord, write_json
from fednet.reporting.samples import SAMPLES_FILE, SampleBatch, write_samples
from fednet.reporting.summary import Summary, SummaryFigure, SummarySection, SummaryTable
from fednet.reporting.tables import plural
from fednet.rules.contract import RuleSettings

RESULT_COLUMNS = (
    "arm", "rule", "sampler", "samples", "queries", "label accuracy", "Inception Score",
    "Frechet distance", "real floor", "ratio", "seconds",
)  # fmt: skip


@dataclass(frozen=True)
class ArmResult:
    """One arm: its configuration, its samples and their measures.

    Attributes:
        evaluation: the measures; None where it was not or could not be measured.
        unmeasured: why it could not be measured.
    """

    name: str
    config: ArmConfig
    sampler: SamplerConfig
    samples: ArmSamples
    evaluation: Evaluation | None = None
    unmeasured: str = ""


def write_real_grid(folder: Path, real: ImageSet, capabilities: Mapping[str, ScoreCapabilities]) -> None:
    """Writes a grid of real pictures to put beside the arms'."""
    conditional = next(iter(capabilities.values())).conditional
    save_png(folder / "samples" / "real" / "grid.png", by_label(real.images, real.labels if conditional else None))


def write_arm(folder: Path, arm: ArmResult, classes: tuple[str, ...]) -> None:
    """Writes an arm's samples: a grid, and all of them with their labels, the classes' names and log densities."""
    path, samples = folder / "samples" / arm.name, arm.samples
    save_png(path / "grid.png", by_label(samples.images, samples.labels))
    more = {"log_p": samples.log_p, **({"redrawn": samples.redrawn} if samples.without else {})}
    batch = SampleBatch(samples.images, samples.labels, classes=classes)
    write_samples(path / SAMPLES_FILE, batch, **more)


def summarise(
    arms: Sequence[ArmResult],
    capabilities: Mapping[str, ScoreCapabilities],
    real: RealReference | None = None,
    agreement: Sequence[AgreementPoint] = (),
    *,
    real_grid: bool = False,
) -> Summary:
    """What a reader is shown of the arms that there are: the table, the grids, the curves, and who contributed."""
    first = next(iter(capabilities.values()))
    rows = [_row(arm) for arm in arms]
    if real is not None:
        head = ("real pictures", None, None, None, None, real.accuracy, real.inception_score)
        rows.insert(0, (*head, *(None,) * (len(RESULT_COLUMNS) - len(head))))
    table = SummaryTable(columns=RESULT_COLUMNS, rows=tuple(rows))
    grids = {**({"real data": "real"} if real_grid else {}), **{arm.name: arm.name for arm in arms}}
    shown = tuple(
        SummaryFigure(title=title, file=f"samples/{name}/grid.png", pixels=True) for title, name in grids.items()
    )
    curves = tuple(SummaryFigure(title=title, file=file) for title, file, _ in _CURVES) if agreement else ()
    sections = (
        SummarySection(title="Results", table=table.without_empty_columns(), notes=_notes(arms, first)),
        SummarySection(title="Pictures", figures=shown),
        SummarySection(title="How far the sites agree", figures=curves),
        traffic_section({arm.name: arm.samples.traffic for arm in arms}),
    )
    return Summary(
        title=f"{plural('site', len(capabilities))}, {'labelled' if first.conditional else 'unlabelled'}, "
        f"SDE {first.sde.kind}",
        sections=non_empty(sections),
        accounts={arm.name: arm.samples.account for arm in arms},
    )


def write_metrics(
    folder: Path, arms: Sequence[ArmResult], real: RealReference | None, agreement: Sequence[AgreementPoint]
) -> None:
    """Writes the figures, the TensorBoard events and metrics.json: every number."""
    for _, file, key in _CURVES if agreement else ():
        _plot(folder / file, key, agreement)
    with RunRecord(folder, "driver") as record:
        for arm in arms:
            record.image(f"samples/{arm.name}", by_label(arm.samples.images, arm.samples.labels))
        record.table("results", [dict(zip(RESULT_COLUMNS, _row(arm), strict=True)) for arm in arms])
    details = {
        arm.name: {
            "rule": arm.config.model_dump(mode="json"),
            "sampler": arm.sampler.model_dump(mode="json"),
            "queries": arm.samples.evaluations,
            "traffic": arm.samples.traffic.record(),
            "redrawn": arm.samples.redrawn.nonzero().flatten().tolist(),
            "redrawn_without": arm.samples.without,
            "evaluation": arm.evaluation and asdict(arm.evaluation),
        }
        for arm in arms
    }
    curves = [{"t": point.t, "sites": {k: asdict(v) for k, v in point.sites.items()}} for point in agreement]
    write_json(folder / "metrics.json", {"real": real and asdict(real), "arms": details, "agreement": curves})


def _row(arm: ArmResult) -> tuple[str | int | float | None, ...]:
    rule = arm.config.rule.kind if isinstance(arm.config.rule, RuleSettings) else "schedule"
    name = arm.sampler.method if isinstance(arm.sampler, ODE) else arm.sampler.kind
    measured, samples = arm.evaluation, arm.samples
    head = (arm.name, rule, name, len(samples.images), samples.evaluations)
    if measured is None:
        return (*head, None, None, None, None, None, samples.seconds)
    ratio = measured.frechet / measured.floor if measured.floor > 0 else None
    measures = (measured.accuracy, measured.inception_score, measured.frechet, measured.floor, ratio)
    return (*head, *measures, samples.seconds)


def _notes(arms: Sequence[ArmResult], site: ScoreCapabilities) -> tuple[str, ...]:
    notes = [f"{arm.name} could not be measured: {arm.unmeasured}" for arm in arms if arm.unmeasured]
    notes += [f"{arm.name}: {redrawn_note(arm.samples)}" for arm in arms if arm.samples.without]
    for arm in arms:
        if uncovered_labels := sorted(arm.samples.uncovered_labels):
            names = ", ".join(site.classes[label] for label in uncovered_labels)
            notes.append(f"{arm.name}: at some step no site that answered had images of {names}")
    if any(arm.evaluation for arm in arms):
        notes.append(
            "Measured by a classifier that no site knows; the real floor is the Frechet distance of as many real "
            "training pictures to the same test pictures, and the ratio is how many floors an arm is away."
        )
    return tuple(notes)


_CURVES = (
    ("Agreement: cosine of each site's score with the mean score", "figures/agreement.png", "cosine"),
    ("Magnitude of each site's score, times std(t)", "figures/magnitude.png", "magnitude"),
)


def _plot(path: Path, key: str, points: Sequence[AgreementPoint]) -> None:
    """A line a site over t, from noise on the left to pictures on the right; the report shows its title."""
    plot = Plot(figsize=(6.4, 3.6), layout="constrained")
    axes = plot.subplots()
    for name in sorted({name for point in points for name in point.sites}):
        values = [(point.t, getattr(point.sites[name], key)) for point in points if name in point.sites]
        axes.plot(*zip(*values, strict=True), label=name, linewidth=1.6)
    axes.invert_xaxis()
    axes.set(xlabel="t (noise on the left)", ylabel=key)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, ncols=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    plot.savefig(path, dpi=144)
