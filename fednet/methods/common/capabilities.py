"""What sites say of themselves, read before anything is built on it: well-formed, of one method, and fitting together.

Knows no method: which fields must be equal is the caller's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field

from fednet.errors import MethodError
from fednet.text import plain_json

CapabilitiesT = TypeVar("CapabilitiesT", bound=BaseModel)

ONE_CONFIGURATION = "use one configuration at all sites"
SHOWN = 80
"""Characters of a value in a message."""


class ImageCapabilities(BaseModel):
    """What every site with pictures says of itself; a method adds fields.

    Attributes:
        classes: the names of the run's classes; none where no site has labels.
        shape: channels, height and width of a picture.
        own: whether its pictures are its own, and no share of the run's data.
        parts: how many of its pictures are used for what; see `fednet.methods.common.site`.
        permits: the keys of its configuration that permit questions about its private pictures, without noise.
        disclosed: those under which it has answered some.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    own: bool = False
    parts: Mapping[str, int] = Field(default_factory=dict)
    permits: tuple[str, ...] = ()
    disclosed: tuple[str, ...] = ()

    @property
    def unprotected(self) -> tuple[str, ...]:
        """The keys under which it answers, or has answered, from private pictures without noise."""
        return tuple(sorted({*self.permits, *self.disclosed}))


def read_capabilities(
    texts: Mapping[str, str], kind: type[CapabilitiesT], method: str, equal: Mapping[str, str]
) -> dict[str, CapabilitiesT]:
    """The sites' capabilities by name in sorted order.

    Args:
        texts: JSON by site.
        kind: the method's capabilities.
        method: its name in cluster.yaml, for messages.
        equal: the fields that must be the same at all sites, and what to do where one is not.

    Raises:
        MethodError: there are none, one is malformed, or two differ in such a field.
    """
    if not texts:
        raise MethodError(f"no site answers: start clients of the method {method} first")
    capabilities: dict[str, CapabilitiesT] = {}
    for name, text in sorted(texts.items()):
        try:
            capabilities[name] = kind.model_validate(plain_json(json.loads(text)))
        except (ValueError, RecursionError) as error:  # pydantic's ValidationError is one
            raise MethodError(f"{name} has no capabilities of the method {method}: {error}") from error
    (first, expected), *rest = capabilities.items()
    for name, one in rest:
        for field, remedy in equal.items():
            values = [getattr(each, field) for each in (one, expected)]
            if values[0] != values[1]:
                differing = " and ".join(str(value)[:SHOWN] for value in values)
                raise MethodError(f"{name} and {first} differ in {field} ({differing}): {remedy}")
    return capabilities
