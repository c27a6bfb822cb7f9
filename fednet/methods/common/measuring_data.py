"""Which pictures samples are measured with: of the asker's choice, held out of the run's data, or none.

What cannot be compared with the sites' pictures is refused before anything trains (`require_measurable`, at the
driver). Knows no method; imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping

from fednet.data.config import DataConfig
from fednet.data.outline import outline
from fednet.errors import DataError
from fednet.methods.common.agreement import agreed_classes, read_announcements
from fednet.methods.common.config import ImageConfig
from fednet.plugins import lazily

_measuring_sizes = lazily("fednet.data.datasets:measuring_sizes")
UNMEASURED = (
    "There were no pictures to measure with: every site has data of its own, and none was named (measure.data)."
)
SWITCHED_OFF = "There were no pictures to measure with: measure is null."


def measuring_data(config: ImageConfig, own: Mapping[str, bool]) -> DataConfig | None:
    """The data set to measure with.

    Args:
        config: the run's.
        own: by site, whether its pictures are its own: where all are, the run's data set is nobody's.
    """
    if config.measure is None:
        return None
    return config.measure.data or (None if all(own.values()) else config.data)


def measuring_parts(config: ImageConfig, own: Mapping[str, bool]) -> dict[str, int]:
    """How many pictures the judge is trained with and samples are compared with; none where nothing is measured.

    Where something is, it imports torch.

    Args:
        config: the run's.
        own: by site, whether its pictures are its own.

    Raises:
        DataError: the data to measure with is missing, or too few.
    """
    data = measuring_data(config, own)
    return {} if data is None or config.measure is None else _measuring_sizes(data, config.measure.held_out)


def unmeasured(config: ImageConfig) -> str:
    """Why there are no pictures to measure with, where there are none."""
    return SWITCHED_OFF if config.measure is None else UNMEASURED


def require_measurable(config: ImageConfig, announcements: Mapping[str, str]) -> tuple[str, ...]:
    """The run's classes; checks, as soon as all sites have announced, that what measures fits the sites' pictures.

    Raises:
        MethodError: an announcement is malformed, or the sites do not fit each other.
        DataError: the measuring pictures have another shape, or no labels.
    """
    announced = read_announcements(announcements)
    classes = agreed_classes(announced)
    data = measuring_data(config, {name: one.own for name, one in announced.items()})
    if data is not None:
        there, (name, site) = outline(data), next(iter(announced.items()))
        require_shape(there.shape, site.shape, name)
        if not there.classes:
            raise DataError(
                "the data to measure with has no labels, and the judge learns from labels: put its pictures in one "
                "folder per class, name other ones (measure.data), or set measure: null"
            )
    return classes


def require_shape(measured: tuple[int, int, int], sites: tuple[int, int, int], name: str) -> None:
    """Refuses measuring pictures of another shape than a site's, by its name.

    Raises:
        DataError: they have one.
    """
    if measured != sites:
        raise DataError(
            f"the data to measure with has pictures {_times(measured)}, {name} has {_times(sites)} (channels x height "
            "x width): set measure.data to pictures like the sites', or measure: null"
        )


def _times(shape: tuple[int, int, int]) -> str:
    return " x ".join(map(str, shape))
