"""The job of a run: rounds, after each what every site predicts far from all points, and training alone beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from fednet.api import Network, Progress, Question, RoundPlan, RoundRecord, Scalar
from fednet.errors import MethodError
from fednet.methods.common.journal import Journal
from fednet.methods.regression.config import RegressionConfig
from fednet.methods.regression.results import Predictions, RegressionFindings, summarise, write_metrics
from fednet.methods.regression.site import LINE, TRAIN
from fednet.reporting.summary import Summary, write_summary


@dataclass(frozen=True)
class _Step:
    """A round, or none before the first, and what every site predicts after it."""

    closed: tuple[RoundRecord, ...]
    predicted: Predictions


def run_job(config: RegressionConfig, network: Network, folder: Path, seed: int, progress: Progress) -> Summary:  # noqa: ARG001 - the shape
    """Does the whole job.

    Leaves in `folder`: summary.json (after every round), metrics.json and journal.jsonl. A run that is started again in
    its folder goes on where it was.

    Args:
        config: of the run.
        network: reaches the sites.
        folder: the run's folder.
        seed: the run's seed; the sites have it too, nothing here is random.
        progress: told of every round.

    Raises:
        MethodError: no site answers, or a round cannot be held.
        Stopped: `progress` asks for the end.
    """
    if not network.capabilities:
        raise MethodError("no site answers: start clients of the method regression first")
    at, total, journal = torch.tensor([[config.at]]), config.rounds * config.steps, Journal(folder)
    alone = journal.once("alone", dict[str, float], lambda: _predicted(network, at, {"alone": total}))

    def step(number: int) -> _Step:
        plan = RoundPlan(f"line-{number}", LINE, TRAIN, 1, config.federation)
        return _Step(network.run_rounds(plan) if number else (), _predicted(network, at, {}))

    findings = RegressionFindings(alone)
    for number in range(config.rounds + 1):
        progress.report("rounds", max(0, number - 1), config.rounds)
        taken = journal.once(f"line-{number}", _Step, partial(step, number))
        findings = findings.after(taken.predicted, taken.closed)
        write_summary(folder, summarise(config, findings))
    write_metrics(folder, config, findings)
    return summarise(config, findings)


def _predicted(network: Network, at: torch.Tensor, options: Mapping[str, Scalar]) -> dict[str, float]:
    """What every site predicts."""
    replies = network.ask(Question("predict", {"x": at}, options))
    return {name: float(reply["y"]) for name, reply in replies.by_node.items()}
