"""Hands a question to what answers it, and says what there is to ask where nothing does. Knows no method."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from fednet.api import Question
from fednet.errors import MethodError

QuestionHandlers = Mapping[str, Callable[[Question], Mapping[str, Tensor]]]
"""What can be asked of a site, by `Question.ask`."""

SHOWN = 40


def dispatch(asks: QuestionHandlers, question: Question, site: str) -> Mapping[str, Tensor]:
    """The answer to a question.

    Raises:
        MethodError: this cannot be asked of the site, or not be answered.
    """
    act = asks.get(question.ask)
    if act is None:
        raise MethodError(f"{site} answers {', '.join(asks)}; not {question.ask[:SHOWN]!r}")
    return act(question)
