"""The labels that a model of a site knows, for the labels of the run. Knows no model."""

from __future__ import annotations

from collections.abc import Mapping

from fednet.errors import ModelError


def own_labels(
    known: tuple[str, ...], classes: tuple[str, ...], any_class: int | None, whose: str
) -> Mapping[int, int]:
    """The model's own label for each label of the run.

    Args:
        known: the model's classes, by its labels.
        classes: the run's.
        any_class: the model's label for "any class", which stands for a class that it does not know.
        whose: for the message.

    Raises:
        ModelError: it does not know a class of the run, and has no such label.
    """
    unknown = [name for name in classes if name not in known]
    if unknown and any_class is None:
        raise ModelError(
            f"{whose} knows no class {unknown[0]!r} of the run, and has no label for any class: name its classes as "
            "the others do (model.classes), or draw with sites of the same classes"
        )
    return {label: known.index(name) if name in known else int(any_class or 0) for label, name in enumerate(classes)}
