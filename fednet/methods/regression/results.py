"""What a run shows and leaves: predictions by site and round, and every number behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from fednet.api import RoundRecord
from fednet.methods.common.report import round_accounts
from fednet.methods.regression.config import RegressionConfig
from fednet.methods.regression.site import LINE
from fednet.reporting.record import write_json
from fednet.reporting.summary import Cell, Summary, SummaryChart, SummarySection, SummaryTable
from fednet.reporting.tables import plural

Predictions = Mapping[str, float]
"""By site."""


@dataclass(frozen=True)
class RegressionFindings:
    """What was measured so far.

    Attributes:
        alone: predictions after as many steps without the other sites.
        history: predictions before the first round and after each.
        rounds: their records.
    """

    alone: Predictions
    history: tuple[Predictions, ...] = ()
    rounds: tuple[RoundRecord, ...] = ()

    def after(self, predicted: Predictions, closed: tuple[RoundRecord, ...]) -> RegressionFindings:
        """The findings after a further round."""
        return RegressionFindings(self.alone, (*self.history, predicted), (*self.rounds, *closed))


def summarise(config: RegressionConfig, findings: RegressionFindings) -> Summary:
    """What a reader is shown of the findings so far."""
    truth, now = config.slope * config.at, findings.history[-1]
    names = sorted({name for predicted in findings.history for name in predicted})
    columns = ("site", f"y({config.at:g}) after {len(findings.rounds)} rounds", "alone, as many steps", "truth")
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (name, now[name], findings.alone.get(name), truth) for name in sorted(now)
    )
    same = len(set(now.values())) == 1
    section = SummarySection(
        title="Predictions",
        table=SummaryTable(columns=columns, rows=rows),
        notes=(
            "All sites predict the same number, to the last bit." if same else "The sites do NOT predict the same.",
        ),
        charts=(_chart(config, findings, names),),
    )
    error = max(abs(value - truth) for value in now.values())
    accounts = round_accounts({LINE: findings.rounds}, names)
    return Summary(
        title=f"{plural('site', len(now))}, largest error {error:.2g}", sections=(section,), accounts=accounts
    )


def write_metrics(folder: Path, config: RegressionConfig, findings: RegressionFindings) -> None:
    """Writes metrics.json: every number."""
    numbers = {
        "at": config.at,
        "truth": config.slope * config.at,
        "federated": findings.history[-1],
        "alone": findings.alone,
        "history": findings.history,
        "rounds": [asdict(record) for record in findings.rounds],
    }
    write_json(folder / "metrics.json", numbers)


def _chart(config: RegressionConfig, findings: RegressionFindings, names: list[str]) -> SummaryChart:
    history = findings.history
    lines = {name: tuple((float(k), one[name]) for k, one in enumerate(history) if name in one) for name in names}
    return SummaryChart(title=f"prediction at {config.at:g}", across="round", lines=lines)
