"""Class names: one list for all sites of a run, and labels by name.

Sites name their classes, and nothing else about them is agreed: a label is a position in the run's list. Pure; knows no
picture and no file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

from pydantic import Field, StringConstraints

from fednet.errors import UnknownClass

ClassRef = Annotated[int, Field(ge=0)] | Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
"""A class as a person writes it: its name, or its number."""
MAX_FOLDER_NAME = 100
"""Characters of a class's name in that of a folder."""
MAX_SHOWN = 12
"""Classes that a message lists."""


def run_classes(by_site: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The classes of a run: the union of its sites' by name, the same for every order of the sites.

    Sites that all have the same list keep its order. Otherwise the names are sorted: as numbers where all are whole
    numbers, else as text. A site without labels (an empty list) adds none.
    """
    lists = {tuple(names) for names in by_site.values() if names}
    return lists.pop() if len(lists) == 1 else sorted_classes({name for names in lists for name in names})


def sorted_classes(names: Iterable[str]) -> tuple[str, ...]:
    """Names in order: of numbers where all are whole numbers, else of text."""
    listed = sorted(names)
    return tuple(sorted(listed, key=int)) if all(_is_numeral(name) for name in listed) else tuple(listed)


def renamed_classes(names: Iterable[str], aliases: Mapping[str, str]) -> tuple[str, ...]:
    """Names under aliases; those that get one name become one."""
    return tuple(dict.fromkeys(aliases.get(name, name) for name in names))


def label_of(given: int | str, classes: Sequence[str], where: str) -> int:
    """The label of a class that somebody has written.

    A name goes before a number: among the classes `1 2 3` a 2 is the class called 2. A number is a position only where
    no class is called by a number.

    Args:
        given: a name or a number.
        classes: all names, by label.
        where: which key or option holds it, for the message.

    Raises:
        UnknownClass: there is no such class.
    """
    text = str(given)
    if text in classes:
        return list(classes).index(text)
    if _is_numeral(text) and int(text) < len(classes) and not any(_is_numeral(name) for name in classes):
        return int(text)
    raise UnknownClass(where, text, listed_classes(classes))


def labels_of(given: Iterable[int | str], classes: Sequence[str], where: str) -> tuple[int, ...]:
    """The labels of classes that somebody has written, in the order in which they are written.

    Raises:
        UnknownClass: there is no such class.
    """
    return tuple(label_of(one, classes, where) for one in given)


def folder_names(classes: Sequence[str]) -> tuple[str, ...]:
    """A name of a folder for each class: the class's own, with its number where that cannot be a folder's name.

    Names of classes come from other sites: nothing in them may lead out of a folder.
    """
    safe = [re.sub(r"[^\w .()+-]", "_", name).strip(" .")[:MAX_FOLDER_NAME] for name in classes]
    lowered = [name.lower() for name in safe]
    return tuple(
        name if name == given and lowered.count(name.lower()) == 1 else f"{label}-{name}".rstrip("-")
        for label, (name, given) in enumerate(zip(safe, classes, strict=True))
    )


def listed_classes(classes: Sequence[str]) -> str:
    """The names for a message; of many the first ones and their number."""
    if not classes:
        return "none: the pictures have no labels"
    more = f" and {len(classes) - MAX_SHOWN} more" if len(classes) > MAX_SHOWN else ""
    return ", ".join(classes[:MAX_SHOWN]) + more


def _is_numeral(text: str) -> bool:
    return text.isascii() and text.isdecimal()
