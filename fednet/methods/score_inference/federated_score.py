"""The score of a federation: asks every site at (x, t), checks the replies, and books who contributed.

Knows the form of a question and of a reply, and not how they travel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fednet.api import Ask, Progress, Question, Replies, Scalar
from fednet.diffusion.bounds import divergence_excess, score_excess
from fednet.diffusion.combination import LabelCounts, ScoreAnswers
from fednet.diffusion.sde import SDE
from fednet.errors import MethodError
from fednet.methods.common.inputs import described
from fednet.methods.score_inference.messages import SCORE
from fednet.reporting.summary import ParticipationAccount

Outputs = Mapping[str, Tensor]


@dataclass(frozen=True)
class FederatedScore:
    """The score function of one batch of trajectories (a `fednet.diffusion.combination.ScoreFunction`).

    Attributes:
        ask: reaches the sites.
        counts: the expected sites, their images by class, and the labels of the batch.
        options: guidance and probe_seed, the same at every query of a trajectory.
        account: where contributions are booked.
        progress: told of every query; may ask for the end.
        phase: the name under which progress is reported.
        sde: the forward diffusion of all sites; decides how large a score can be.
        uncovered_labels: collects the requested labels of which no site that answered had an image.
        prompt: float32 (2, tokens, width), the embedded negative prompt and prompt; None where there is none.
        reach: the largest absolute value of the sites' data.
    """

    ask: Ask
    counts: LabelCounts
    options: Mapping[str, Scalar]
    account: ParticipationAccount
    progress: Progress
    phase: str
    sde: SDE
    uncovered_labels: set[int] = field(default_factory=set)
    prompt: Tensor | None = None
    reach: float = 1.0

    def __call__(self, x: Tensor, t: float, divergence: bool = False) -> ScoreAnswers:
        """Asks every site at x (n, c, h, w) and t.

        An answer is judged before it is combined: one of another form, one that is not finite and one that no data in
        [-1, 1] can have (`fednet.diffusion.bounds`) is refused, and its site is booked as lost with the reason.

        Raises:
            MethodError: no site gave a usable answer.
            Stopped: `progress` asks for the end.
        """
        labels, names = self.counts.labels, self.counts.names
        told = {"labels": labels, "prompt": self.prompt}
        inputs = {"x": x, **{key: value for key, value in told.items() if value is not None}}
        replies = self.ask(Question(SCORE, inputs, {**self.options, "t": t, "divergence": divergence}))
        wanted = {"score": x.shape} | ({"divergence": x.shape[:1]} if divergence else {})
        usable, refused = self._usable(replies, wanted, x, t)
        self._book(set(usable), replies.late, {**replies.lost, **refused})
        if not usable:
            raise MethodError(f"none of {list(names)} gave a usable score at t = {t:.4f}: {refused}")
        answers = stack_answers(usable, names, x, divergence)
        self.uncovered_labels.update(self.counts.labels_without_data(answers.present))
        self.progress.report(self.phase, round(1000 * (1 - t)), 1000, answered=len(usable), queries=self.account.steps)
        return answers

    def _usable(
        self, replies: Replies, wanted: Mapping[str, torch.Size], x: Tensor, t: float
    ) -> tuple[dict[str, Outputs], dict[str, str]]:
        """The outputs of expected sites that can be scores at x and t, and why the others do not count."""
        there = {name: replies.by_node[name] for name in self.counts.names if name in replies.by_node}
        faults = {name: _fault(outputs, wanted) or self._excess(outputs, x, t) for name, outputs in there.items()}
        refused = {name: fault for name, fault in faults.items() if fault}
        return {name: outputs for name, outputs in there.items() if name not in refused}, refused

    def _excess(self, outputs: Outputs, x: Tensor, t: float) -> str:
        allowed = {"guidance": float(self.options.get("guidance") or 0.0), "reach": self.reach}
        excesses = {"score": score_excess(outputs["score"], x, t, self.sde, **allowed)}
        if "divergence" in outputs:
            excesses["divergence"] = divergence_excess(outputs["divergence"], x, t, self.sde, **allowed)
        for key, excess in excesses.items():
            if excess > 1:
                return f"its {key} at t = {t:.4f} is {excess:.2g} times what data of at most {self.reach:g} allow"
        return ""

    def _book(self, usable: set[str], late: tuple[str, ...], lost: Mapping[str, str]) -> None:
        """Books one query; an expected site that neither answered nor is late is lost."""
        slow = set(self.counts.names) & set(late)
        missing = set(self.counts.names) - usable - slow
        self.account.enter(usable, slow, {name: lost.get(name, "did not answer") for name in missing})


def stack_answers(outputs: Mapping[str, Outputs], names: tuple[str, ...], x: Tensor, divergence: bool) -> ScoreAnswers:
    """The sites' outputs in the order of `names`; zeros for a missing site."""
    blank = {"score": torch.zeros_like(x), "divergence": torch.zeros(len(x))}

    def column(key: str) -> Tensor:
        return torch.stack([outputs.get(name, blank)[key] for name in names])

    present = torch.tensor([name in outputs for name in names])
    return ScoreAnswers(column("score"), present, column("divergence") if divergence else None)


def _fault(outputs: Outputs, wanted: Mapping[str, torch.Size]) -> str:
    for key, shape in wanted.items():
        value = outputs.get(key)
        if value is None or value.shape != shape or value.dtype != torch.float32:
            return f"its {key} must be float32 {tuple(shape)}, got {described(value)}"
        if not bool(torch.isfinite(value).all()):
            return f"its {key} is not finite"
    return ""
