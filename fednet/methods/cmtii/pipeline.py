"""The steps of the job: words are learnt and offered, encoders tuned, and every arm is measured at every site.

What was found is kept in a journal, so that a run that was stopped does nothing twice. Knows how to ask and not whom.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch

from fednet.api import ExchangePlan, Progress, Question
from fednet.methods.cmtii import evaluation
from fednet.methods.cmtii.centralised_baseline import centralised_counts
from fednet.methods.cmtii.config import CmtiiConfig
from fednet.methods.cmtii.messages import LEARN, TUNE, CmtiiArm, CmtiiCapabilities
from fednet.methods.common.job import PipelineContext, run_stages
from fednet.methods.common.json_tensor import from_json_tensor

ClassCounts = Mapping[str, list[list[int]]]
"""Right and all by class, of the pictures of a "test" that all sites share and of the sites' "local" ones."""


@dataclass(frozen=True)
class CmtiiFindings:
    """What there is so far.

    Attributes:
        exchanges: the records of all calls, in order.
        arms: by arm and site, how many pictures of each class were right.
        central: right and all by class, of the bound.
        rounds: accuracy on the shared test after each round of exchange, mean of all sites.
        appraisals: what each site's painted pictures are worth, and what its words tell.
    """

    exchanges: tuple[Mapping[str, Any], ...] = ()
    arms: Mapping[str, Mapping[str, ClassCounts]] = field(default_factory=dict)
    central: list[list[int]] | None = None
    rounds: tuple[float, ...] = ()
    site_evaluations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


class CmtiiPipeline(PipelineContext[CmtiiConfig, CmtiiCapabilities]):
    """What all steps need, and how sites are called and measured."""

    def call(self, work: str, number: int, **options: str) -> dict[str, Any]:
        """Has all sites do a round's work, or remembers what came of it."""
        key = "-".join([work, *options.values(), str(number)])

        def exchange() -> dict[str, Any]:
            return asdict(self.network.exchange(ExchangePlan(key, work, {"round": number, **options})))

        return self.journal.once(key, exchange)

    def measured(self, arm: CmtiiArm, number: int) -> dict[str, ClassCounts]:
        """How every site classifies in an arm, by site."""

        def measure() -> dict[str, Any]:
            replies = self.network.ask(Question("evaluate", self.test(), {"arm": arm})).by_node
            return {name: {part: counts.tolist() for part, counts in reply.items()} for name, reply in replies.items()}

        return self.journal.once(f"evaluate-{arm}-{number}", measure)

    def test(self) -> dict[str, torch.Tensor]:
        """The test pictures as a question's inputs."""
        return {"images": self.splits.test.images, "labels": self.splits.test.labels}


def pipeline(job: CmtiiPipeline, progress: Progress) -> Iterator[CmtiiFindings]:
    """Does the job, and says after every step what there is.

    Raises:
        MethodError: nobody takes part, or nobody answers.
        Stopped: the watch asks for the end.
    """
    found = replace(CmtiiFindings(), arms={"zero-shot": job.measured("zero-shot", 0)})
    yield found
    yield from run_stages((_rounds, _baselines, _evaluated, _centralised_baseline), job, found, progress)


def accuracy(counts: list[list[int]]) -> float:
    """The share of right pictures in counts by class; NaN where there are none."""
    right, there = (sum(column) for column in zip(*counts, strict=True))
    return right / there if there else float("nan")


def _rounds(job: CmtiiPipeline, found: CmtiiFindings, progress: Progress) -> Iterator[CmtiiFindings]:
    for number in range(1, job.config.rounds + 1):
        progress.report("rounds", number - 1, job.config.rounds)
        held = [job.call(LEARN, number)]
        yield replace(found, exchanges=(*found.exchanges, *held))
        held.append(job.call(TUNE, number, arm="exchange"))
        measured = job.measured("exchange", number)
        mean = sum(accuracy(counts["test"]) for counts in measured.values()) / len(measured)
        found = replace(
            found,
            exchanges=(*found.exchanges, *held),
            arms={**found.arms, "exchange": measured},
            rounds=(*found.rounds, mean),
        )
        yield found


def _baselines(job: CmtiiPipeline, found: CmtiiFindings, progress: Progress) -> Iterator[CmtiiFindings]:
    arms: tuple[CmtiiArm, ...] = ("local", "control") if job.config.report.control else ("local",)
    number = job.config.rounds
    for done, arm in enumerate(arms):
        progress.report("baselines", done, len(arms))
        held = job.call(TUNE, number, arm=arm)
        found = replace(found, exchanges=(*found.exchanges, held), arms={**found.arms, arm: job.measured(arm, number)})
        yield found


def _evaluated(job: CmtiiPipeline, found: CmtiiFindings, progress: Progress) -> Iterator[CmtiiFindings]:
    progress.report("appraisal", 0, 1)

    def measure() -> dict[str, Any]:
        inputs = {**job.test(), **evaluation.judge_to_inputs(job.judge)}
        replies = job.network.ask(Question("appraise", inputs, {"round": job.config.rounds})).by_node
        return {name: from_json_tensor(reply.get("appraisal")) for name, reply in replies.items()}

    yield replace(found, site_evaluations=job.journal.once("appraisal", measure))


def _centralised_baseline(job: CmtiiPipeline, found: CmtiiFindings, progress: Progress) -> Iterator[CmtiiFindings]:
    if not job.config.report.central or not all(card.common for card in job.capabilities.values()):
        return

    def measure() -> dict[str, Any]:
        test, sites = job.splits.test, len(job.capabilities)
        counts = centralised_counts(job.config, test, sites=sites, folder=job.folder, seed=job.seed, progress=progress)
        return {"counts": counts.tolist()}

    yield replace(found, central=job.journal.once("central", measure)["counts"])
