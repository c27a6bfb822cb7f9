"""What sites say of themselves, read by whoever asks them: cards that are well-formed, of one method, and fit together.

A card is what one site shows and the others cannot check, so nothing is built on it before it has been read here.
Refuses to know what a card says beyond the fields that it is asked to compare.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from fednet.data.datasets import Splits
from fednet.errors import DataError, MethodError

CapabilitiesT = TypeVar("CapabilitiesT", bound=BaseModel)

ONE_CONFIGURATION = "use one configuration at all sites"
SHOWN = 80
"""Characters of a value in a message."""


class HasImages(Protocol):
    """A card of a site that has labelled pictures."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes' names."""
        ...


def read_capabilities(
    texts: Mapping[str, str], kind: type[CapabilitiesT], method: str, alike: Mapping[str, str]
) -> dict[str, CapabilitiesT]:
    """The cards by name in sorted order, checked.

    Args:
        texts: as the sites show them, JSON by name.
        kind: what a card of this method is.
        method: its name in a configuration.
        alike: the fields that must be the same at all sites, and what to do where one is not.

    Raises:
        MethodError: there are none, one is malformed, or two differ in such a field.
    """
    if not texts:
        raise MethodError(f"nobody is there to be asked: start clients of the method {method} first")
    capabilities: dict[str, CapabilitiesT] = {}
    for name, text in sorted(texts.items()):
        try:
            capabilities[name] = kind.model_validate_json(text)
        except ValidationError as error:
            raise MethodError(f"{name} shows no card of the method {method}: {error}") from error
    (first, whole), *rest = capabilities.items()
    for name, card in rest:
        for field, remedy in alike.items():
            here, there = (getattr(one, field) for one in (card, whole))
            if here != there:
                said = f"{str(here)[:SHOWN]} and {str(there)[:SHOWN]}"
                raise MethodError(f"{name} and {first} differ in {field} ({said}): {remedy}")
    return capabilities


def require_matching_data(splits: Splits, capabilities: Mapping[str, HasImages]) -> Splits:
    """The data to measure with, if it looks like what the sites have.

    Raises:
        DataError: its pictures or classes are others.
    """
    name, card = next(iter(capabilities.items()))
    test = splits.test
    if test.shape != card.shape or test.classes != card.classes:
        raise DataError(
            f"the data to measure with has pictures {test.shape} of {len(test.classes)} classes, {name} has "
            f"{card.shape} of {len(card.classes)}: set data to what the sites have"
        )
    return splits
