"""What one site says for itself over the run's configuration, section by section. Imports no torch; knows no method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from fednet.errors import ModelError

ConfigT = TypeVar("ConfigT", bound=BaseModel)


def merged(common: BaseModel, own: Mapping[str, Any]) -> dict[str, Any]:
    """A section as a site has it: `own` replaces keys of the run's; one of another `kind` replaces it whole."""
    kind = getattr(common, "kind", None)
    return dict(own) if own.get("kind", kind) != kind else {**common.model_dump(mode="json"), **own}


def site_section(config: ConfigT, key: str, own: Mapping[str, Any] | None) -> ConfigT:
    """A configuration in which a site has replaced a section, or keys of it.

    Raises:
        ModelError: the section is then invalid.
    """
    if not own:
        return config
    values = merged(getattr(config, key), own)
    try:
        changed = type(config).model_validate({**config.model_dump(), key: values})
    except ValidationError as error:
        raise ModelError(f"invalid {key} of a site, {dict(own)}: {error}") from error
    return config.model_copy(update={key: getattr(changed, key)})
