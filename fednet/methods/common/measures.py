"""The pictures that samples are measured with, read, and the judge that learns from them.

Nobody needs the sites' own pictures: a method leaves out what it cannot measure without, and its report says so. Which
pictures they are says `measuring_data.py`. Knows no method.
"""

from __future__ import annotations

from collections.abc import Mapping

from fednet.api import Progress
from fednet.data.classes import listed_classes, run_classes
from fednet.data.datasets import ImageSet, Splits, load
from fednet.errors import DataError
from fednet.methods.common.capabilities import ImageCapabilities
from fednet.methods.common.config import ImageConfig, MeasureConfig
from fednet.methods.common.measuring_data import measuring_data, require_shape
from fednet.metrics.judge import Judge, train_judge


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
    require_shape(splits.test.shape, site.shape, name)
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
