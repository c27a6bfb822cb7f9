"""Who is asked a question, and what each of them receives.

A question with `each` is for those that it names, with tensors of their own. One of them that is absent is lost, not an
error, and a quorum counts those that could have been asked and were not: so there may be no replies.
"""

from __future__ import annotations

from fednet.api import Question


def recipients(question: Question) -> tuple[str, ...] | None:
    """Names of those that are asked, in sorted order; None for all that are present."""
    named = question.to if question.each is None else question.each
    return None if named is None else tuple(sorted(set(named)))


def asked_of(question: Question, name: str) -> Question:
    """The question as one responder receives it."""
    own = {} if question.each is None else question.each.get(name, {})
    return Question(question.task, {**question.inputs, **own}, question.options)
