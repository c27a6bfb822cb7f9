"""What the steps of a run's job work with: the sites, pictures that no site learns from, a judge, and a journal.

A method's job is a few parts, each of which goes on from what the last one has found and says after every step what
there is, so that something can be shown long before the end. Knows no method and no network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from fednet.api import Network, Progress
from fednet.data.datasets import Splits
from fednet.methods.common.journal import Journal
from fednet.metrics.judge import Judge

ConfigT = TypeVar("ConfigT")
CardT = TypeVar("CardT")
FindingsT = TypeVar("FindingsT")
ContextT = TypeVar("ContextT")


@dataclass
class PipelineContext(Generic[ConfigT, CardT]):
    """What all steps need.

    Attributes:
        config: of the run.
        network: reaches the sites.
        capabilities: of the sites, by name in sorted order.
        splits: pictures that no site learns from: `judge` and `test`.
        judge: measures samples.
        folder: of the run.
        seed: of the run.
        journal: what was measured already.
    """

    config: ConfigT
    network: Network
    capabilities: Mapping[str, CardT]
    splits: Splits
    judge: Judge
    folder: Path
    seed: int

    def __post_init__(self) -> None:
        self.journal = Journal(self.folder)


def run_stages(
    parts: Iterable[Callable[[ContextT, FindingsT, Progress], Iterator[FindingsT]]],
    job: ContextT,
    found: FindingsT,
    progress: Progress,
) -> Iterator[FindingsT]:
    """What there is after every step of the parts, one part after another.

    Args:
        parts: each takes the job and what there is so far.
        job: what they work with.
        found: what there is before the first.
        progress: hears of every step, and asks for the end.
    """
    for part in parts:
        for now in part(job, found, progress):
            found = now
            yield found
