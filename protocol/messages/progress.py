"""The message by which a node reports the progress of its computation to monitors."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from protocol.messages.base import MAX_VALUES, Count, Label, Message, Real, Text

QUARANTINE = "quarantine"
"""The phase of a report that is not of a computation: its sender has barred a peer, which the note names."""


class ProgressReport(Message):
    """`done` of `total` units of a phase are complete.

    Attributes:
        phase: what is computed, for example "training".
        done: units that are complete.
        total: units in all; 0 for unknown.
        values: measurements by name, for example the loss; not always finite.
        note: a short remark for people.
    """

    kind: ClassVar[str] = "progress_report"
    numbered: ClassVar[bool] = True

    phase: Label
    done: Count
    total: Count
    values: Annotated[dict[Label, Real], Field(max_length=MAX_VALUES)]
    note: Annotated[Text, Field(max_length=200)] = ""
