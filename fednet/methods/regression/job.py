"""The job of a run: rounds, and after each what everybody predicts far from all points; local training beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from fednet.api import Network, Progress, Question, RoundPlan, Scalar, SiteContext
from fednet.errors import MethodError
from fednet.methods.common.journal import Journal
from fednet.methods.regression.config import RegressionConfig
from fednet.methods.regression.site import LINE, TRAIN, RegressionSite
from fednet.reporting.record import write_json
from fednet.reporting.summary import (
    Cell,
    ParticipationAccount,
    Summary,
    SummaryChart,
    SummarySection,
    SummaryTable,
    write_summary,
)


def make_site(config: RegressionConfig, site: SiteContext, own: Mapping[str, Any] | None = None) -> RegressionSite:  # noqa: ARG001 - the shape
    """Makes the side that holds points and a line."""
    return RegressionSite(config, site)


def run_job(config: RegressionConfig, network: Network, folder: Path, seed: int, progress: Progress) -> Summary:  # noqa: ARG001 - the shape
    """Does the whole job.

    Leaves in `folder`: summary.json (after every round), metrics.json and journal.json. A run that is started again in
    its folder goes on where it was.

    Args:
        config: of the run.
        network: reaches the sites.
        folder: the run's folder.
        seed: the run's seed; the sites have it too, nothing here is random.
        progress: hears of every round.

    Raises:
        MethodError: nobody answers, or a round cannot be held.
        Stopped: the watch asks for the end.
    """
    if not network.capabilities:
        raise MethodError("nobody is there: start clients of the method regression first")
    at, total, journal = torch.tensor([[config.at]]), config.rounds * config.steps, Journal(folder)
    alone = journal.once("alone", lambda: _predicted(network, at, {"alone": total}))

    def held(number: int) -> dict[str, Any]:
        """A round, if there is one before it, and what everybody predicts then."""
        programme = RoundPlan(f"line-{number}", LINE, TRAIN, 1, config.federation)
        closed = [asdict(record) for record in network.run_rounds(programme)] if number else []
        return {"closed": closed, "predicted": _predicted(network, at, {})}

    rounds: list[dict[str, Any]] = []
    history: list[dict[str, float]] = []
    for number in range(config.rounds + 1):
        progress.report("rounds", max(0, number - 1), config.rounds)
        found = journal.once(f"line-{number}", partial(held, number))
        rounds += found["closed"]
        history.append(found["predicted"])
        summary = _summary(config, history, alone, rounds)
        write_summary(folder, summary)
    write_json(
        folder / "metrics.json",
        {
            "at": config.at,
            "truth": config.slope * config.at,
            "federated": history[-1],
            "alone": alone,
            "history": history,
            "rounds": rounds,
        },
    )
    return summary


def _predicted(network: Network, at: torch.Tensor, options: Mapping[str, Scalar]) -> dict[str, float]:
    """What every site predicts."""
    replies = network.ask(Question("predict", {"x": at}, options))
    return {name: float(reply["y"]) for name, reply in replies.by_node.items()}


def _summary(
    config: RegressionConfig, history: list[dict[str, float]], alone: Mapping[str, float], rounds: list[dict[str, Any]]
) -> Summary:
    truth, now = config.slope * config.at, history[-1]
    heads = ("site", f"y({config.at:g}) after {len(rounds)} rounds", "alone, as many steps", "truth")
    rows: tuple[tuple[Cell, ...], ...] = tuple((name, now[name], alone.get(name), truth) for name in sorted(now))
    names = sorted({name for one in history for name in one})
    lines = {name: tuple((float(k), one[name]) for k, one in enumerate(history) if name in one) for name in names}
    same = len(set(now.values())) == 1
    account = ParticipationAccount.of("round", names)
    for record in rounds:
        account.enter(record["weights"], record["late"], {**record["lost"], **record["refused"]})
    section = SummarySection(
        title="Predictions",
        table=SummaryTable(columns=heads, rows=rows),
        notes=(
            "All sites predict the same number, to the last bit." if same else "The sites do NOT predict the same.",
        ),
        charts=(SummaryChart(title=f"prediction at {config.at:g}", across="round", lines=lines),),
    )
    off = max(abs(value - truth) for value in now.values())
    return Summary(title=f"{len(now)} sites, largest error {off:.2g}", sections=(section,), accounts={LINE: account})
