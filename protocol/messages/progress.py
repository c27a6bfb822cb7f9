"""How far a node is with what it computes, for those who watch."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from protocol.messages.base import MAX_VALUES, Count, Label, Message, Real


class ProgressReport(Message):
    """`done` of `total` units of a phase are through.

    Attributes:
        phase: what is being done, for example "training".
        done: units that are through.
        total: units that are planned; 0 when nobody knows.
        values: what was measured on the way, for example the loss; not always finite.
        note: a short remark for people.
    """

    kind: ClassVar[str] = "progress_report"
    numbered: ClassVar[bool] = True

    phase: Label
    done: Count
    total: Count
    values: Annotated[dict[Label, Real], Field(max_length=MAX_VALUES)]
    note: Annotated[str, Field(max_length=200)] = ""
