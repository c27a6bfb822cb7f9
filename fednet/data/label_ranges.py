"""Lists of labels as an operator writes them on a command line: `0-9`, `1,3,7` or `0-2,8`. Knows no data set."""

from __future__ import annotations

from typing import Final

from fednet.errors import UsageError

MAX_LABELS: Final = 1_000_000


def parse_label_ranges(text: str, argument: str = "--labels") -> tuple[int, ...]:
    """The labels of a list, in the order in which they are written; both ends of a range belong to it.

    Args:
        text: numbers and ranges, separated by commas.
        argument: the option that gave it, for the message.

    Raises:
        UsageError: a part is no number below a million, and no rising range of such.
    """
    labels: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        last = last if dash else first
        if not first.isdecimal() or not last.isdecimal() or not int(first) <= int(last) < MAX_LABELS:
            raise UsageError(f"{argument} {text}", "numbers and ranges such as 0-9 or 1,3,7", repr(part))
        labels += range(int(first), int(last) + 1)
    return tuple(labels)
