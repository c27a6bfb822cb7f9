"""The pictures that samples are measured with: of the asker's choice, held out of the run's data, or none.

Nobody needs the sites' own pictures: a method leaves out what it cannot measure without, and its report says so. What
cannot be compared with the sites' pictures is refused before anything trains (`require_measurable`, at the driver).
Knows no method.
"""

from __future__ import annotations

from collections.abc import Mapping

from fednet.api import Progress
from fednet.data.classes import listed_classes, run_classes
from fednet.data.config import DataConfig
from fednet.data.datasets import ImageSet, Splits, load, measuring_sizes, outline
from fednet.errors import DataError
from fednet.methods.common.agreement import agreed_classes, read_announcements
from fednet.methods.common.capabilities import ImageCapabilities
from fednet.methods.common.config import ImageConfig, MeasureConfig
from fednet.metrics.judge import Judge, train_judge

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

    Args:
        config: the run's.
        own: by site, whether its pictures are its own.

    Raises:
        DataError: the data to measure with is missing, or too few.
    """
    data = measuring_data(config, own)
    return {} if data is None or config.measure is None else measuring_sizes(data, config.measure.held_out)


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
        _require_shape(there.shape, site.shape, name)
        if not there.classes:
            raise DataError(
                "the data to measure with has no labels, and the judge learns from labels: put its pictures in one "
                "folder per class, name other ones (measure.data), or set measure: null"
            )
    return classes


def measuring_splits(
    config: ImageConfig, capabilities: Mapping[str, ImageCapabilities], *, strange: bool = True
) -> Splits | None:
    """The pictures to measure with, labelled as the run's classes and after them those that no site has.

    Args:
        config: the run's.
        capabilities: of the sites.
        strange: whether pictures of classes that no site has are among them.

    Raises:
        DataError: they are missing, have another shape than the sites' pictures, or none is of the run's classes.
    """
    data = measuring_data(config, {name: site.own for name, site in capabilities.items()})
    if data is None or config.measure is None:
        return None
    name, site = next(iter(capabilities.items()))
    splits = load(data, config.measure.held_out)
    _require_shape(splits.test.shape, site.shape, name)
    further = run_classes({"data": [one for one in splits.test.classes if one not in site.classes]})
    classes = (*site.classes, *further) if strange else site.classes
    parts = (_labelled(part.under(classes)) for part in (splits.train, splits.judge, splits.test))
    return Splits(*parts)


def _labelled(pictures: ImageSet) -> ImageSet:
    """The pictures of classes that are known.

    Raises:
        DataError: there are none.
    """
    known = (pictures.labels >= 0).nonzero().flatten()
    if not len(known):
        raise DataError(
            f"the data to measure with has no pictures of the run's classes ({listed_classes(pictures.classes)}): set "
            "measure.data to pictures of them, or measure: null"
        )
    return pictures if len(known) == len(pictures) else pictures.subset(known)


def measuring_judge(config: ImageConfig, splits: Splits, *, seed: int, progress: Progress) -> Judge:
    """The judge of the pictures to measure with.

    Raises:
        MeasureError: its training diverged.
        Stopped: `progress` asks for the end.
    """
    steps = (config.measure or MeasureConfig()).judge_steps
    return train_judge(splits.judge, seed=seed, progress=progress, steps=steps)


def _require_shape(measured: tuple[int, int, int], sites: tuple[int, int, int], name: str) -> None:
    if measured != sites:
        raise DataError(
            f"the data to measure with has pictures {_times(measured)}, {name} has {_times(sites)} (channels x height "
            "x width): set measure.data to pictures like the sites', or measure: null"
        )


def _times(shape: tuple[int, int, int]) -> str:
    return " x ".join(map(str, shape))
