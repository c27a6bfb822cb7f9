"""From questions to answers: puts a sampler's queries to the agents and keeps account of who contributed.

Knows the form of a question and of a reply, and nothing of how they travel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fednet.api import Ask, Progress, Question, Replies, Scalar
from fednet.diffusion.combination import ScoreAnswers
from fednet.errors import MethodError
from fednet.methods.score_inference.rules import LabelCounts
from fednet.methods.score_inference.site import SCORE_QUESTION
from fednet.reporting.summary import ParticipationAccount


@dataclass(frozen=True)
class FederatedScore:
    """The query of one batch of trajectories (a `fednet.diffusion.combination.Query`).

    Attributes:
        ask: reaches the agents.
        holdings: whom to expect, what they hold, and the labels of the batch.
        options: guidance and probe_seed, the same at every query of a trajectory.
        account: where contributions are booked.
        progress: hears of every query; asks for the end.
        phase: what the watch is told.
        orphaned: collects the labels that were asked for while none of those who answered held any.
    """

    ask: Ask
    holdings: LabelCounts
    options: Mapping[str, Scalar]
    account: ParticipationAccount
    progress: Progress
    phase: str
    uncovered_labels: set[int] = field(default_factory=set)

    def __call__(self, x: Tensor, t: float, divergence: bool = False) -> ScoreAnswers:
        """Asks every agent at x (n, c, h, w) and t.

        Raises:
            MethodError: nobody gave a usable answer.
            Stopped: the watch asks for the end.
        """
        labels = self.holdings.labels
        inputs = {"x": x} if labels is None else {"x": x, "labels": labels}
        replies = self.ask(Question(SCORE_QUESTION, inputs, {**self.options, "t": t, "divergence": divergence}))
        usable, refused = _usable(replies, self.holdings.names, x, divergence)
        self._book(set(usable), replies.late, {**replies.lost, **refused})
        if not usable:
            raise MethodError(f"none of {list(self.holdings.names)} gave a usable score at t = {t:.4f}: {refused}")
        answers = stack_answers(usable, self.holdings.names, x, divergence)
        self.uncovered_labels.update(self.holdings.labels_without_data(answers.present))
        self.progress.report(self.phase, round(1000 * (1 - t)), 1000, answered=len(usable), queries=self.account.steps)
        return answers

    def _book(self, usable: set[str], late: tuple[str, ...], lost: Mapping[str, str]) -> None:
        """Books one query: of the agents that were counted on, whoever neither answered nor is late is lost."""
        slow = set(self.holdings.names) & set(late)
        gone = set(self.holdings.names) - usable - slow
        self.account.enter(usable, slow, {name: lost.get(name, "did not answer") for name in gone})


def stack_answers(
    outputs: Mapping[str, Mapping[str, Tensor]], names: tuple[str, ...], x: Tensor, divergence: bool
) -> ScoreAnswers:
    """The agents' outputs, one after the other in the order of `names`; zeros for those who are missing."""
    nothing = torch.zeros_like(x)
    return ScoreAnswers(
        scores=torch.stack([outputs[name]["score"] if name in outputs else nothing for name in names]),
        present=torch.tensor([name in outputs for name in names]),
        divergences=torch.stack(
            [outputs[name]["divergence"] if name in outputs else torch.zeros(len(x)) for name in names]
        )
        if divergence
        else None,
    )


def _usable(
    replies: Replies, names: tuple[str, ...], x: Tensor, divergence: bool
) -> tuple[dict[str, Mapping[str, Tensor]], dict[str, str]]:
    """The outputs of expected agents that have the right form, and why the others do not count."""
    usable: dict[str, Mapping[str, Tensor]] = {}
    refused: dict[str, str] = {}
    for name in names:
        outputs = replies.by_node.get(name)
        if outputs is None:
            continue
        wanted = {"score": x.shape} | ({"divergence": x.shape[:1]} if divergence else {})
        fault = _fault(outputs, wanted)
        if fault:
            refused[name] = fault
        else:
            usable[name] = outputs
    return usable, refused


def _fault(outputs: Mapping[str, Tensor], wanted: Mapping[str, torch.Size]) -> str:
    for key, shape in wanted.items():
        value = outputs.get(key)
        if value is None or value.shape != shape or value.dtype != torch.float32:
            found = "nothing" if value is None else f"{value.dtype} {tuple(value.shape)}"
            return f"its {key} should be float32 {tuple(shape)}, not {found}"
        if not bool(torch.isfinite(value).all()):
            return f"its {key} is not finite"
    return ""
