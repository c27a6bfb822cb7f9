"""Models that a site brings along, opened: what they are is read at once, their weights when they are loaded.

Knows no site. A folder of diffusers is `diffusers_expert.py`, an object of Python `python_expert.py`.
"""

from __future__ import annotations

from typing import Protocol

from fednet.diffusion.expert import ScoreExpert
from fednet.diffusion.sde import SDE
from fednet.errors import ModelError
from fednet.models.config import DiffusersModelConfig, PythonModelConfig

PretrainedConfig = DiffusersModelConfig | PythonModelConfig


class PretrainedModel(Protocol):
    """A model that a site brings along, before its weights are loaded.

    Attributes:
        shape: channels, height and width of its data.
        classes: the names of its classes; none where it knows none.
        conditional: whether it takes labels.
        prompted: whether it takes embedded prompts.
    """

    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    conditional: bool
    prompted: bool

    def load(self, sde: SDE, device: str, classes: tuple[str, ...]) -> ScoreExpert:
        """The model as an expert, on a device.

        Args:
            sde: the run's.
            device: a torch device string.
            classes: the run's, whose numbers are the labels that it will be asked for.

        Raises:
            ModelError: its files cannot be loaded, or it knows neither a class of the run nor "any class".
        """


def open_pretrained(config: PretrainedConfig) -> PretrainedModel:
    """The model of a configuration; reads what describes it.

    Raises:
        ModelError: it is not there, or of another kind.
    """
    if isinstance(config, DiffusersModelConfig):
        from fednet.models.diffusers_expert import WHAT, DiffusersFolder  # noqa: PLC0415 - imports diffusers
        from fednet.models.diffusers_folder import NETWORK_CONFIG, part_config  # noqa: PLC0415
        from fednet.models.text_expert import TEXT_NETWORK, TextFolder  # noqa: PLC0415

        unet = part_config(config.path.expanduser(), "unet", NETWORK_CONFIG, WHAT)
        return TextFolder(config) if unet.get("_class_name") == TEXT_NETWORK else DiffusersFolder(config)
    from fednet.models.python_expert import PythonModel  # noqa: PLC0415 - as above

    return PythonModel(config)


def picture_counts(config: PretrainedConfig, known: tuple[str, ...], classes: tuple[str, ...]) -> tuple[int, ...]:
    """How many pictures of each class of the run a model stands for; empty where nobody names classes.

    Args:
        config: the model's.
        known: the classes that it knows.
        classes: the run's.

    Raises:
        ModelError: the configuration counts pictures of a class that the model does not know.
    """
    counts = config.pictures
    if isinstance(counts, int):
        return tuple(counts if name in known else 0 for name in classes)
    if odd := sorted(set(counts) - set(known)):
        raise ModelError(f"model.pictures counts {odd[0]!r}, which is none of the model's classes ({', '.join(known)})")
    return tuple(counts.get(name, 0) for name in classes)


def total_pictures(config: PretrainedConfig, by_class: tuple[int, ...]) -> int:
    """How many pictures a model stands for in all."""
    return config.pictures if isinstance(config.pictures, int) and not sum(by_class) else sum(by_class)
