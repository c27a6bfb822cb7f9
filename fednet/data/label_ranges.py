"""Lists of classes as an operator writes them on a command line: `0-9`, `1,3,7` or `cat,dog`. Knows no data set."""

from __future__ import annotations

import re
from typing import Final

from fednet.errors import UsageError

MAX_LABELS: Final = 1_000_000
_NUMBERS: Final = re.compile(r"[0-9-]*")


def parse_label_ranges(text: str, argument: str = "--labels") -> tuple[int | str, ...]:
    """The classes of a list, in the order in which they are written; both ends of a range of numbers belong to it.

    Args:
        text: names, numbers and ranges of numbers, separated by commas.
        argument: the option that gave it, for the message.

    Raises:
        UsageError: a part is empty, a number from a million on, or a range that does not rise.
    """
    classes: list[int | str] = []
    for part in map(str.strip, text.split(",")):
        if part and not _NUMBERS.fullmatch(part):
            classes.append(part)
            continue
        first, dash, last = part.partition("-")
        last = last if dash else first
        if not first.isdecimal() or not last.isdecimal() or not int(first) <= int(last) < MAX_LABELS:
            raise UsageError(f"{argument} {text}", "names, numbers and ranges such as cat,dog or 0-9,12", repr(part))
        classes += range(int(first), int(last) + 1)
    return tuple(classes)
