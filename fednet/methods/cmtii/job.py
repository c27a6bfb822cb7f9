"""The job of a run: pseudo-words are learnt and offered, encoders tuned, and every arm is measured at every site.

Without pictures to measure with, the sites count on their own test alone, and no judge looks at what they generate.
Measurements are kept in a journal. The same code runs over the bus and in one process.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from fednet.api import ExchangePlan, ExchangeRecord, Network, Progress, Question
from fednet.images import save_png
from fednet.methods.cmtii.centralised_baseline import centralised_counts
from fednet.methods.cmtii.config import CmtiiConfig
from fednet.methods.cmtii.evaluation import judge_to_inputs
from fednet.methods.cmtii.findings import ClassCounts, CmtiiFindings, mean_accuracy
from fednet.methods.cmtii.messages import (
    EVALUATE,
    EVALUATE_GENERATED,
    EVALUATE_OWN,
    LEAKAGE,
    LEARN,
    TUNE,
    CmtiiArm,
    CmtiiCapabilities,
    read_cmtii_capabilities,
)
from fednet.methods.cmtii.persistence import class_grid
from fednet.methods.cmtii.results import REAL_GRID, summarise, write_metrics
from fednet.methods.cmtii.site_data import CmtiiDataSplit
from fednet.methods.common.job import JudgedContext, run_stages, summarise_each
from fednet.methods.common.json_tensor import ask_for_json
from fednet.methods.common.measures import measuring_splits
from fednet.reporting.summary import Summary, write_summary

Steps = Iterator[CmtiiFindings]
"""The findings after every step of a stage."""


def run_job(config: CmtiiConfig, network: Network, folder: Path, seed: int, progress: Progress) -> Summary:
    """Does the whole job.

    Leaves in `folder`: summary.json (after every step), metrics.json, journal.jsonl, real.png. A run that is started
    again in its folder goes on where it was.

    Args:
        config: learning, tuning and measures.
        network: reaches the sites, and knows their capabilities.
        folder: the run's folder.
        seed: the run's seed.
        progress: told of every step; may ask for the end.

    Raises:
        MethodError: the sites do not fit the data or each other, or none takes part.
        Stopped: `progress` asks for the end.
    """
    capabilities = read_cmtii_capabilities(network.capabilities)
    splits = measuring_splits(config, capabilities, strange=False)
    if splits is not None:
        splits = CmtiiDataSplit(config.data, config.public).oriented(splits)
    context = CmtiiContext.start(config, network, capabilities, splits, folder, seed=seed, progress=progress)
    if splits is not None and config.report.real:
        save_png(folder / REAL_GRID, class_grid(splits.test.images, splits.test.labels))

    def shown(latest: CmtiiFindings) -> Summary:
        return context.with_data(summarise(config, capabilities, latest, folder))

    stages = (_zero_shot, _rounds, _baselines, _evaluated, _centralised_baseline)
    steps = run_stages(stages, context, CmtiiFindings(), progress)
    findings = summarise_each(steps, shown, folder, CmtiiFindings())
    write_metrics(folder, config, capabilities, findings)
    summary = shown(findings)
    write_summary(folder, summary)
    return summary


@dataclass
class CmtiiContext(JudgedContext[CmtiiConfig, CmtiiCapabilities]):
    """What all stages need, and how exchanges are held and arms measured."""

    def exchange(self, work: str, number: int, **options: str) -> ExchangeRecord:
        """The record of a round's exchange, which is held now unless the journal has it."""
        key = "-".join([work, *options.values(), str(number)])
        plan = ExchangePlan(key, work, {"round": number, **options})
        return self.journal.once(key, ExchangeRecord, lambda: self.network.exchange(plan))

    def counts(self, arm: CmtiiArm, number: int) -> dict[str, ClassCounts]:
        """How many pictures of each class every site gets right in an arm, by site."""

        def measure() -> dict[str, ClassCounts]:
            found: dict[str, dict[str, list[list[int]]]] = {name: {} for name in self.capabilities}
            for task, inputs, sites in self.evaluations():
                for name, reply in self.network.ask(Question(task, inputs, {"arm": arm}, sites)).by_node.items():
                    found.setdefault(name, {}).update({part: counts.tolist() for part, counts in reply.items()})
            return {name: parts for name, parts in found.items() if parts}

        return self.journal.once(f"evaluate-{arm}-{number}", dict[str, ClassCounts], measure)

    def evaluations(self) -> Iterator[tuple[str, dict[str, torch.Tensor], tuple[str, ...]]]:
        """The questions that measure an arm, their inputs and sites: on the test of all, and on those of sites' own."""
        if self.measures is not None:
            yield EVALUATE, self.test(), self.sites
        if sites := self.permitting("disclose.evaluate"):
            yield EVALUATE_OWN, {}, sites

    def test(self) -> dict[str, torch.Tensor]:
        """The test pictures as a question's inputs; none where nothing is measured."""
        if self.measures is None:
            return {}
        test = self.measures.splits.test
        return {"images": test.images, "labels": test.labels}


def _zero_shot(context: CmtiiContext, findings: CmtiiFindings, _progress: Progress) -> Steps:
    yield replace(findings, arms={"zero-shot": context.counts("zero-shot", 0)})


def _rounds(context: CmtiiContext, findings: CmtiiFindings, progress: Progress) -> Steps:
    for number in range(1, context.config.rounds + 1):
        progress.report("rounds", number - 1, context.config.rounds)
        findings = replace(findings, exchanges=(*findings.exchanges, context.exchange(LEARN, number)))
        yield findings
        tuned = context.exchange(TUNE, number, arm="exchange")
        counts = context.counts("exchange", number)
        findings = replace(
            findings,
            exchanges=(*findings.exchanges, tuned),
            arms={**findings.arms, "exchange": counts},
            rounds=(*findings.rounds, mean_accuracy(counts)),
        )
        yield findings


def _baselines(context: CmtiiContext, findings: CmtiiFindings, progress: Progress) -> Steps:
    arms: tuple[CmtiiArm, ...] = ("local", "control") if context.config.report.control else ("local",)
    number = context.config.rounds
    for done, arm in enumerate(arms):
        progress.report("baselines", done, len(arms))
        exchanges = (*findings.exchanges, context.exchange(TUNE, number, arm=arm))
        findings = replace(findings, exchanges=exchanges, arms={**findings.arms, arm: context.counts(arm, number)})
        yield findings


def _evaluated(context: CmtiiContext, findings: CmtiiFindings, progress: Progress) -> Steps:
    permitting, measures = context.permitting("disclose.leakage"), context.measures
    if measures is None and not permitting:
        return
    progress.report("evaluation", 0, 1)

    def measure() -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        if measures is not None:
            inputs = {**context.test(), **judge_to_inputs(measures.judge)}
            question = Question(EVALUATE_GENERATED, inputs, {"round": context.config.rounds})
            found |= {name: {"worth": one} for name, one in ask_for_json(context.network, question, "worth").items()}
        if permitting:
            for name, leak in ask_for_json(context.network, Question(LEAKAGE, {}, {}, permitting), "leak").items():
                found.setdefault(name, {}).update({"leak": leak} if leak else {})
        return found

    yield replace(findings, evaluations=context.journal.once("evaluation", dict[str, dict[str, Any]], measure))


def _centralised_baseline(context: CmtiiContext, findings: CmtiiFindings, progress: Progress) -> Steps:
    measures = context.measures
    own = any(site.own for site in context.capabilities.values())
    if measures is None or own or not context.config.report.central:
        return

    def measure() -> list[list[int]]:
        counts = centralised_counts(
            context.config, measures.splits.test,
            sites=len(context.capabilities), folder=context.folder, seed=context.seed, progress=progress,
        )  # fmt: skip
        counted: list[list[int]] = counts.tolist()
        return counted

    yield replace(findings, central=context.journal.once("central", list[list[int]], measure))
