"""Lists of labels as text: "0-3", "0,1,2", and one list for each node where they differ.

An option of a question or of a round is a text; `labels.a1` holds for the node a1 alone and goes before `labels`.
Knows no data: whether a site has pictures of a label is checked elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from fednet.api import Scalar
from fednet.errors import DataError, MethodError
from fednet.methods.novelty.config import FlowLabels

Labels = tuple[int, ...]
"""Class numbers in rising order, none twice."""
MAX_LIST_CHARACTERS = 4096
"""Characters of a list."""
_PART = re.compile(r"([0-9]{1,6})(?:-([0-9]{1,6}))?")


def parse_labels(text: str, classes: int) -> Labels:
    """Reads "0-3", "0,1,2" or "0-2,7".

    Args:
        text: numbers and ranges, separated by commas; ranges include both ends.
        classes: how many classes there are; labels are 0 to classes - 1.

    Raises:
        MethodError: it is no such list, or names a label that does not exist.
    """
    if len(text) > MAX_LIST_CHARACTERS:
        raise MethodError(f"a list of labels has at most {MAX_LIST_CHARACTERS} characters, not {len(text)}")
    labels: set[int] = set()
    for part in text.split(","):
        match = _PART.fullmatch(part.strip())
        if match is None:
            raise MethodError(f"labels are written as 0-3 or 0,1,2; {text[:40]!r} is no such list")
        first, last = int(match[1]), int(match[2] or match[1])
        if last >= classes or first > last:
            raise MethodError(f"labels lie in 0..{classes - 1} and ranges rise; {part.strip()!r} does not")
        labels.update(range(first, last + 1))
    return tuple(sorted(labels))


def format_labels(labels: Iterable[int]) -> str:
    """A list of labels as a text that `parse_labels` reads: "0-3,7"."""
    runs: list[list[int]] = []
    for label in sorted(set(labels)):
        if runs and label == runs[-1][1] + 1:
            runs[-1][1] = label
        else:
            runs.append([label, label])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def named_labels(labels: Iterable[int], classes: Sequence[str]) -> str:
    """Labels for a reader: by name, or as ranges where the classes are called by their numbers."""
    if tuple(classes) == tuple(map(str, range(len(classes)))):
        return format_labels(labels)
    return ", ".join(classes[label] for label in sorted(set(labels)))


def require_flow(flow: FlowLabels, there: Mapping[str, Collection[int]], *, detectors: bool) -> None:
    """Checks that every site has pictures of the classes that the steps of a flow give it.

    Args:
        flow: the labels of the steps; lists are dealt in turn to the sites, in the order of their names.
        there: by site, the labels that it has.
        detectors: whether there are rounds of the detector.

    Raises:
        DataError: a site lacks a class.
    """
    sites = sorted(there)
    for lists in (flow.shares, flow.belongs) if detectors else (flow.shares,):
        for index, site in enumerate(sites):
            needed = {*lists[index % len(lists)], *(flow.first if index == 0 else ())}
            if lacking := needed - set(there[site]):
                raise DataError(
                    f"{site} has no pictures of {named_labels(lacking, flow.classes)}: change flow, or partition"
                )


def labels_for(node: str, options: Mapping[str, Scalar], classes: int) -> Labels | None:
    """The labels that options name for a node: `labels.<node>`, else `labels`; None where neither is there.

    Raises:
        MethodError: what is there is no list of labels.
    """
    value = options.get(f"labels.{node}", options.get("labels"))
    if value is None:
        return None
    if not isinstance(value, str):
        raise MethodError(f"labels are a text such as 0-3 or 0,1,2, not {value!r}")
    return parse_labels(value, classes)


LabelSpec = str | Iterable[int]
"""Labels of a question: a text, which the sites read, or numbers."""


def labels_options(labels: LabelSpec | Mapping[str, LabelSpec]) -> dict[str, Scalar]:
    """Options that say one list for all, or a list for each node by name."""
    if isinstance(labels, Mapping):
        return {f"labels.{node}": _text(own) for node, own in sorted(labels.items())}
    return {"labels": _text(labels)}


def _text(labels: LabelSpec) -> str:
    return labels if isinstance(labels, str) else format_labels(labels)
