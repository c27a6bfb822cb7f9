"""The score of a federation: asks the sites at (x, t), checks the replies, books who contributed and what travelled.

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
from fednet.methods.score_inference.traffic import Traffic
from fednet.questions import asked_of, recipients
from fednet.reporting.summary import ParticipationAccount

Outputs = Mapping[str, Tensor]


@dataclass(frozen=True)
class FederatedScore:
    """The score function of one batch of trajectories (a `fednet.diffusion.combination.SparseScoreFunction`).

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
        traffic: where samples and bytes are booked.
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
    traffic: Traffic = field(default_factory=Traffic)

    def __call__(self, x: Tensor, t: float, divergence: bool = False, asked: Tensor | None = None) -> ScoreAnswers:
        """Asks the sites at x (n, c, h, w) and t: each of them, or with `asked` (bool (sites, n)) for its own samples.

        An answer is judged before it is combined: one of another form, one that is not finite and one that no data in
        [-1, 1] can have (`fednet.diffusion.bounds`) is refused, and its site is booked as lost with the reason.

        Raises:
            MethodError: no site gave a usable answer.
            Stopped: `progress` asks for the end.
        """
        names = self.counts.names
        rows = None if asked is None else {name: asked[k].nonzero().flatten() for k, name in enumerate(names)}
        question = self._question(x, {**self.options, "t": t, "divergence": divergence}, rows)
        replies = self.ask(question)
        usable, refused = self._usable(replies, x, t, divergence, rows)
        self._book(question, usable, replies.late, {**replies.lost, **refused})
        if not usable and asked is None:
            raise MethodError(f"none of {list(names)} gave a usable score at t = {t:.4f}: {refused}")
        answers = stack_answers(usable, names, x, divergence, rows)
        self.uncovered_labels.update(self.counts.labels_without_data(answers.present))
        self.progress.report(self.phase, round(1000 * (1 - t)), 1000, answered=len(usable), queries=self.account.steps)
        return answers

    def _question(self, x: Tensor, options: Mapping[str, Scalar], rows: Mapping[str, Tensor] | None) -> Question:
        """The question to all, or to each of those that have rows of x."""
        common = {} if self.prompt is None else {"prompt": self.prompt}
        single = {"x": x} | ({} if self.counts.labels is None else {"labels": self.counts.labels})
        if rows is None:
            return Question(SCORE, {**single, **common}, options)
        each = {name: {key: value[of] for key, value in single.items()} for name, of in rows.items() if len(of)}
        return Question(SCORE, common, options, each=each)

    def _usable(
        self, replies: Replies, x: Tensor, t: float, divergence: bool, rows: Mapping[str, Tensor] | None
    ) -> tuple[dict[str, Outputs], dict[str, str]]:
        """The outputs of sites that were asked and can be scores at x and t, and why the others do not count."""
        there = {name: replies.by_node[name] for name in self.counts.names if name in replies.by_node}
        faults = {}
        for name, outputs in there.items():
            of = x if rows is None else x[rows[name]]
            wanted = {"score": of.shape} | ({"divergence": of.shape[:1]} if divergence else {})
            faults[name] = _fault(outputs, wanted) or self._excess(outputs, of, t)
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

    def _book(
        self, question: Question, usable: Mapping[str, Outputs], late: tuple[str, ...], lost: Mapping[str, str]
    ) -> None:
        """Books one query; an expected site that was asked and neither answered nor is late is lost."""
        asked = set(recipients(question) or self.counts.names)
        slow = asked & set(late)
        missing = asked - set(usable) - slow
        self.account.enter(set(usable), slow, {name: lost.get(name, "did not answer") for name in missing})
        self.traffic.enter({name: asked_of(question, name).inputs for name in asked}, usable)


def stack_answers(
    outputs: Mapping[str, Outputs],
    names: tuple[str, ...],
    x: Tensor,
    divergence: bool,
    rows: Mapping[str, Tensor] | None,
) -> ScoreAnswers:
    """The sites' outputs in the order of `names`, for all samples or each site's rows; zeros where there are none."""
    blank = {"score": torch.zeros_like(x), "divergence": torch.zeros(len(x))}

    def whole(name: str, key: str) -> Tensor:
        if name not in outputs:
            return blank[key]
        return outputs[name][key] if rows is None else blank[key].index_copy(0, rows[name], outputs[name][key])

    def column(key: str) -> Tensor:
        return torch.stack([whole(name, key) for name in names])

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
