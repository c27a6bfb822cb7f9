"""The pictures that samples are measured with: of the asker's choice, held out of the run's data, or none.

Nobody needs the sites' own pictures. What cannot be compared with the sites' pictures is refused before anything trains
(`require_measurable`, at the driver). Knows no method.
"""

from __future__ import annotations

from collections.abc import Mapping

from fednet.api import Progress
from fednet.data.classes import run_classes
from fednet.data.config import DataConfig
from fednet.data.datasets import Splits, load, outline
from fednet.errors import DataError
from fednet.methods.common.agreement import agreed_classes, read_announcements
from fednet.methods.common.capabilities import ImageCapabilities
from fednet.methods.common.config import ImageConfig, MeasureConfig
from fednet.metrics.judge import Judge, train_judge

UNMEASURED = "Nothing was measured: every site has data of its own, and none was named to measure with (measure.data)."
SWITCHED_OFF = "Nothing was measured: measure is null."


def measuring_data(config: ImageConfig, own: Mapping[str, bool]) -> DataConfig | None:
    """The data set to measure with.

    Args:
        config: the run's.
        own: by site, whether its pictures are its own: where all are, the run's data set is nobody's.
    """
    if config.measure is None:
        return None
    return config.measure.data or (None if all(own.values()) else config.data)


def unmeasured(config: ImageConfig) -> str:
    """Why nothing is measured, where nothing is."""
    return SWITCHED_OFF if config.measure is None else UNMEASURED


def require_measurable(config: ImageConfig, announcements: Mapping[str, str], needed: str = "") -> tuple[str, ...]:
    """The run's classes; checks, as soon as all sites have announced, that their samples can be measured.

    Args:
        config: the run's.
        announcements: of all sites.
        needed: what cannot do without measuring pictures, as the subject of a sentence; empty where all can.

    Raises:
        MethodError: an announcement is malformed, or the sites do not fit each other.
        DataError: the measuring pictures have another shape, or there are none although they are needed.
    """
    announced = read_announcements(announcements)
    classes = agreed_classes(announced)
    data = measuring_data(config, {name: one.own for name, one in announced.items()})
    if data is not None:
        name, site = next(iter(announced.items()))
        _require_shape(outline(data).shape, site.shape, name)
    elif needed:
        raise _missing(needed)
    return classes


def measuring_splits(config: ImageConfig, capabilities: Mapping[str, ImageCapabilities]) -> Splits | None:
    """The pictures to measure with, labelled as the run's classes and after them those that no site has.

    Raises:
        DataError: they are missing, or have another shape than the sites' pictures.
    """
    data = measuring_data(config, {name: site.own for name, site in capabilities.items()})
    if data is None or config.measure is None:
        return None
    name, site = next(iter(capabilities.items()))
    splits = load(data, config.measure.held_out)
    _require_shape(splits.test.shape, site.shape, name)
    further = run_classes({"data": [one for one in splits.test.classes if one not in site.classes]})
    classes = (*site.classes, *further)
    return Splits(splits.train.under(classes), splits.judge.under(classes), splits.test.under(classes))


def required_splits(config: ImageConfig, capabilities: Mapping[str, ImageCapabilities], needed: str) -> Splits:
    """The same for what cannot do without them.

    Raises:
        DataError: there are none, or they do not fit.
    """
    splits = measuring_splits(config, capabilities)
    if splits is None:
        raise _missing(needed)
    return splits


def measuring_judge(config: ImageConfig, splits: Splits, *, seed: int, progress: Progress) -> Judge:
    """The judge of the pictures to measure with.

    Raises:
        MeasureError: its training diverged.
        Stopped: `progress` asks for the end.
    """
    steps = (config.measure or MeasureConfig()).judge_steps
    return train_judge(splits.judge, seed=seed, progress=progress, steps=steps)


def _missing(needed: str) -> DataError:
    return DataError(
        f"{needed} needs pictures of its own to measure with, and there are none: every site has data of its own, or "
        "measure is null; name some, for example measure: {data: {name: folder, root: FOLDER}}"
    )


def _require_shape(measured: tuple[int, int, int], sites: tuple[int, int, int], name: str) -> None:
    if measured != sites:
        raise DataError(
            f"the data to measure with has pictures {_times(measured)}, {name} has {_times(sites)} (channels x height "
            "x width): set measure.data to pictures like the sites', or measure: null"
        )


def _times(shape: tuple[int, int, int]) -> str:
    return " x ".join(map(str, shape))
