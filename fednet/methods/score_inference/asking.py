"""From questions to answers: puts a sampler's queries to the agents and keeps account of who contributed.

Knows the form of a question and of a reply, and nothing of how they travel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fednet.conversations import Ask, Question, Replies, Scalar, Watch
from fednet.diffusion.steering import Answers
from fednet.errors import MethodError
from fednet.methods.score_inference.agent import ASK
from fednet.methods.score_inference.rules import Holdings


@dataclass
class Tally:
    """What one agent did over the queries of an arm; queries are counted from 1."""

    answered: int = 0
    first: int = 0
    last: int = 0
    late: int = 0


@dataclass
class Account:
    """Who contributed to an arm.

    Attributes:
        steps: how many queries were put.
        nodes: what each agent did.
        lost: for each agent that was lost the query at which it first was, and the reason.
        orphaned: labels that were asked for while none of those who answered held any.
    """

    names: tuple[str, ...]
    steps: int = 0
    nodes: dict[str, Tally] = field(default_factory=dict)
    lost: dict[str, dict[str, int | str]] = field(default_factory=dict)
    orphaned: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.nodes = {name: Tally() for name in self.names}

    def enter(self, answered: set[str], late: tuple[str, ...], lost: Mapping[str, str]) -> None:
        """Books one query."""
        self.steps += 1
        for name, tally in self.nodes.items():
            tally.late += name in late
            if name in answered:
                tally.answered += 1
                tally.first = tally.first or self.steps
                tally.last = self.steps
            elif name not in late:
                self.lost.setdefault(name, {"step": self.steps, "reason": lost.get(name, "did not answer")})

    def as_json(self) -> dict[str, object]:
        """The account as JSON can say it."""
        return {
            "steps": self.steps,
            "nodes": {name: dict(vars(tally)) for name, tally in self.nodes.items()},
            "lost": self.lost,
            "orphaned": sorted(self.orphaned),
        }


@dataclass(frozen=True)
class ScoreQuery:
    """The query of one batch of trajectories (a `fednet.diffusion.steering.Query`).

    Attributes:
        ask: reaches the agents.
        holdings: whom to expect, what they hold, and the labels of the batch.
        options: guidance and probe_seed, the same at every query of a trajectory.
        account: where contributions are booked.
        watch: hears of every query; asks for the end.
        phase: what the watch is told.
    """

    ask: Ask
    holdings: Holdings
    options: Mapping[str, Scalar]
    account: Account
    watch: Watch
    phase: str

    def __call__(self, x: Tensor, t: float, divergence: bool = False) -> Answers:
        """Asks every agent at x (n, c, h, w) and t.

        Raises:
            MethodError: nobody gave a usable answer.
            Stopped: the watch asks for the end.
        """
        labels = self.holdings.labels
        inputs = {"x": x} if labels is None else {"x": x, "labels": labels}
        replies = self.ask(Question(ASK, inputs, {**self.options, "t": t, "divergence": divergence}))
        usable, refused = _usable(replies, self.holdings.names, x, divergence)
        self.account.enter(set(usable), replies.late, {**replies.lost, **refused})
        if not usable:
            raise MethodError(f"none of {list(self.holdings.names)} gave a usable score at t = {t:.4f}: {refused}")
        answers = stacked(usable, self.holdings.names, x, divergence)
        self.account.orphaned |= self.holdings.orphans(answers.present)
        self.watch.report(self.phase, round(1000 * (1 - t)), 1000, answered=len(usable), queries=self.account.steps)
        return answers


def stacked(
    outputs: Mapping[str, Mapping[str, Tensor]], names: tuple[str, ...], x: Tensor, divergence: bool
) -> Answers:
    """The agents' outputs, one after the other in the order of `names`; zeros for those who are missing."""
    nothing = torch.zeros_like(x)
    return Answers(
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
