"""Base class of a run's job: the sites, pictures that no site learns from, a journal, and stages that yield findings.

A job is a few stages. Each goes on from the findings so far and yields new ones after every step, so that a run shows
results long before its end. Knows no method and no network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Self, TypeVar

from pydantic import BaseModel

from fednet.api import Network, Progress, RoundPlan, RoundRecord
from fednet.data.datasets import Splits
from fednet.methods.common.capabilities import ImageCapabilities
from fednet.methods.common.config import ImageConfig
from fednet.methods.common.journal import Journal
from fednet.methods.common.measures import measuring_judge
from fednet.methods.common.measuring_data import unmeasured
from fednet.methods.common.report import with_data
from fednet.metrics.judge import Judge
from fednet.reporting.summary import Summary, write_summary

ConfigT = TypeVar("ConfigT", bound=BaseModel)
ImageConfigT = TypeVar("ImageConfigT", bound=ImageConfig)
CapabilitiesT = TypeVar("CapabilitiesT", bound=ImageCapabilities)
FindingsT = TypeVar("FindingsT")
ContextT = TypeVar("ContextT")


@dataclass
class JobContext(Generic[ConfigT, CapabilitiesT]):
    """What all stages of a job need.

    Attributes:
        config: of the run.
        network: reaches the sites.
        capabilities: of the sites, by name in sorted order.
        folder: of the run.
        seed: of the run.
        journal: what was measured already.
    """

    config: ConfigT
    network: Network
    capabilities: Mapping[str, CapabilitiesT]
    folder: Path
    seed: int

    def __post_init__(self) -> None:
        self.journal = Journal(self.folder)

    @property
    def first_site(self) -> str:
        """The site that is asked where all sites would answer the same."""
        return min(self.capabilities)

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites' names."""
        return tuple(self.capabilities)

    def permitting(self, permission: str) -> tuple[str, ...]:
        """The sites whose configuration permits questions about their private pictures, by its key."""
        return tuple(name for name, site in self.capabilities.items() if permission in site.permits)

    def rounds(self, plan: RoundPlan) -> tuple[RoundRecord, ...]:
        """The records of a plan's rounds, which are held now unless the journal has them.

        Raises:
            MethodError: a round cannot be held.
        """
        return self.journal.once(plan.key, tuple[RoundRecord, ...], lambda: self.network.run_rounds(plan))


@dataclass(frozen=True)
class Measures:
    """What samples are measured with.

    Attributes:
        splits: pictures that no site learns from: `judge` and `test`.
        judge: a classifier that no site knows.
    """

    splits: Splits
    judge: Judge


@dataclass
class JudgedContext(JobContext[ImageConfigT, CapabilitiesT]):
    """The same with what samples are measured with.

    Attributes:
        measures: None where nothing is measured.
    """

    measures: Measures | None

    @classmethod
    def start(
        cls,
        config: ImageConfigT,
        network: Network,
        capabilities: Mapping[str, CapabilitiesT],
        splits: Splits | None,
        folder: Path,
        *,
        seed: int,
        progress: Progress,
    ) -> Self:
        """Trains the judge, where there are pictures to measure with.

        Raises:
            Stopped: `progress` asks for the end.
        """
        measures = None
        if splits is not None:
            measures = Measures(splits, measuring_judge(config, splits, seed=seed, progress=progress))
        return cls(config, network, capabilities, folder, seed, measures)

    def with_data(self, summary: Summary) -> Summary:
        """A summary with a section that says whose pictures were used for what, and why nothing was measured."""
        return with_data(summary, self.capabilities, "" if self.measures else unmeasured(self.config))


Stage = Callable[[ContextT, FindingsT, Progress], Iterator[FindingsT]]
"""A part of a job: what there is after each of its steps, from what there was before."""


def run_stages(
    stages: Iterable[Stage[ContextT, FindingsT]], context: ContextT, findings: FindingsT, progress: Progress
) -> Iterator[FindingsT]:
    """The findings after every step of the stages, one stage after another.

    Args:
        stages: in order.
        context: what they work with.
        findings: what there is before the first.
        progress: told of every step; may ask for the end.
    """
    for stage in stages:
        for latest in stage(context, findings, progress):
            findings = latest
            yield findings


def summarise_each(
    steps: Iterable[FindingsT], summarise: Callable[[FindingsT], Summary], folder: Path, findings: FindingsT
) -> FindingsT:
    """Goes through all steps and writes a summary after each; returns the last findings.

    Args:
        steps: the findings after every step.
        summarise: what a reader is shown of them.
        folder: of the run.
        findings: what is returned where there is no step.
    """
    for latest in steps:
        findings = latest
        write_summary(folder, summarise(findings))
    return findings
