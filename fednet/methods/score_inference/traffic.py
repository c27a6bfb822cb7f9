"""What travels between the asker and each site: queries, samples and bytes of tensors, by site and by step.

Counted are the tensors of questions and of usable answers, as many bytes as their values have; `bus.encoding`, headers,
signatures and retransmissions are not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from fednet.reporting.summary import SummaryChart, SummarySection, SummaryTable


@dataclass(frozen=True)
class Exchanged:
    """What one site was sent and has answered in some queries: samples, and bytes to and from it."""

    queries: int = 0
    samples: int = 0
    sent: int = 0
    received: int = 0

    def __add__(self, other: Exchanged) -> Exchanged:
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Exchanged(*(one + more for one, more in pairs))


@dataclass
class Traffic:
    """The traffic of a batch of trajectories, or of several at the same steps.

    Attributes:
        steps: what was exchanged with each site that was asked, by name, query after query.
    """

    steps: list[dict[str, Exchanged]] = field(default_factory=list)

    @classmethod
    def joined(cls, parts: Sequence[Traffic]) -> Traffic:
        """The traffic of several batches, the first queries of all of them added up, and so on."""
        whole = cls([{} for _ in range(max((len(part.steps) for part in parts), default=0))])
        for part in parts:
            for step, sites in zip(whole.steps, part.steps, strict=False):
                step.update({name: step.get(name, Exchanged()) + one for name, one in sites.items()})
        return whole

    def enter(self, asked: Mapping[str, Mapping[str, Tensor]], answered: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Adds a query: the inputs that each site was sent, and the outputs of those that answered."""
        self.steps.append(
            {
                name: Exchanged(1, len(inputs["x"]), _bytes(inputs), _bytes(answered.get(name, {})))
                for name, inputs in sorted(asked.items())
            }
        )

    def sites(self) -> dict[str, Exchanged]:
        """The sums over all steps, by site in sorted order."""
        names = sorted({name for step in self.steps for name in step})
        return {name: sum((step.get(name, Exchanged()) for step in self.steps), Exchanged()) for name in names}

    def record(self) -> dict[str, Any]:
        """As a JSON object: sums by site, and the samples that each site was sent, step by step."""
        sites = self.sites()
        samples = {name: [step.get(name, Exchanged()).samples for step in self.steps] for name in sites}
        return {"sites": {name: vars(one) for name, one in sites.items()}, "samples_by_step": samples}


def traffic_section(arms: Mapping[str, Traffic]) -> SummarySection:
    """What every arm has exchanged with each site, and the samples that were sent at each query to all of them."""
    columns = ("arm", "site", "queries", "samples", "MB to it", "MB from it")
    rows = [
        (arm, name, one.queries, one.samples, round(one.sent / 1e6, 3), round(one.received / 1e6, 3))
        for arm, traffic in arms.items()
        for name, one in traffic.sites().items()
    ]
    lines = {
        arm: tuple(
            (float(number), float(sum(one.samples for one in step.values())))
            for number, step in enumerate(traffic.steps, 1)
        )
        for arm, traffic in arms.items()
    }
    chart = SummaryChart(title="samples sent to all sites", across="query", lines=lines)
    return SummarySection(title="Traffic", table=SummaryTable(columns=columns, rows=tuple(rows)), charts=(chart,))


def _bytes(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
