"""A folder of diffusers as a score expert: a UNet2DModel with the schedule that it was trained with.

Its network is asked at its own time and scale (`fednet.diffusion.parametrisation`); the run's labels become its own.
`schedulers.py` reads the schedule, `diffusers_folder.py` the files. Knows no site.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from torch import Tensor, nn

from fednet.diffusion.expert import ExpertCard
from fednet.diffusion.parametrisation import Parametrisation
from fednet.diffusion.sde import SDE
from fednet.errors import ModelError
from fednet.models.config import DiffusersModelConfig
from fednet.models.diffusers_folder import (
    NETWORK_CONFIG,
    SCHEDULER_CONFIG,
    half_type,
    load_network,
    part_config,
    part_folder,
    positive_integer,
    precision_name,
    to_device,
)
from fednet.models.own_labels import own_labels
from fednet.models.schedulers import trained_schedule

WHAT = "model.path"
NETWORK = "UNet2DModel"
NETWORKS = {NETWORK: UNet2DModel}


class DiffusersFolder:
    """A folder, of which the descriptions are read (a `fednet.models.pretrained.PretrainedModel`).

    Args:
        config: which folder, and what its files do not say.

    Attributes:
        shape: channels, height and width of its pictures.
        classes: the names of its classes.
        conditional: whether its network takes labels.

    Raises:
        ModelError: there is none, or it is of another kind.
    """

    prompted = False

    def __init__(self, config: DiffusersModelConfig) -> None:
        self.config, self._folder = config, config.path.expanduser()
        self._unet = part_config(self._folder, "unet", NETWORK_CONFIG, WHAT)
        if (name := self._unet.get("_class_name")) != NETWORK:
            raise ModelError(f"{WHAT}: {self._folder} holds a {str(name)[:60]}; expected a {NETWORK}")
        if config.lora is not None:
            raise ModelError(f"model.lora: {self._folder} holds a {NETWORK}; a LoRA is of a text-to-image UNet")
        if self._unet.get("time_embedding_type") == "learned":
            raise ModelError(f"{WHAT}: {self._folder} embeds whole steps; expected a network with continuous time")
        where = f"{WHAT}: {part_folder(self._folder, 'scheduler') / SCHEDULER_CONFIG}"
        self._schedule = trained_schedule(part_config(self._folder, "scheduler", SCHEDULER_CONFIG, WHAT), where)
        self._form = self._schedule.parametrisation(config.range, f"{WHAT}: {self._folder}")
        self.shape = (positive_integer(self._unet, "in_channels", WHAT, self._folder), *self._size())
        labels = self._unet.get("num_class_embeds") or 0
        self.classes = config.classes or tuple(map(str, range(labels)))
        self.conditional = bool(labels)
        self._any_class = labels - 1 if labels and len(self.classes) == labels - 1 else None
        if labels and len(self.classes) not in {labels, labels - 1}:
            raise ModelError(
                f"model.classes names {len(self.classes)} classes, {self._folder} has {labels} labels: expected one "
                "name for each, or for all but a last one that means any class"
            )

    def load(self, sde: SDE, device: str, classes: tuple[str, ...]) -> DiffusersExpert:
        """The network as an expert on a device; see `PretrainedModel`.

        Raises:
            ModelError: its weights cannot be loaded, or it knows neither a class of the run nor "any class".
        """
        labels = (
            own_labels(self.classes, classes, self._any_class, f"{WHAT}: {self._folder}") if self.conditional else {}
        )
        dtype = half_type(self.config.half, device)
        network = to_device(load_network(self._folder, "unet", NETWORKS, WHAT, torch.float32), device, dtype)
        call = _Call(network, dtype, self._schedule.sign, self.shape[0], labels, self._any_class)
        return DiffusersExpert(call, self._form, sde, self._card(dtype), self.shape)

    def _card(self, dtype: torch.dtype) -> ExpertCard:
        return ExpertCard(
            kind="diffusers",
            network=NETWORK,
            prediction=self._schedule.prediction,
            schedule=self._schedule.name[:120],
            value_range=self.config.range or self._schedule.value_range,
            precision=precision_name(dtype),
        )

    def _size(self) -> tuple[int, int]:
        size = self.config.size or self._unet.get("sample_size")
        sides = [size, size] if isinstance(size, int) else size
        if (
            not isinstance(sides, list)
            or len(sides) != 2
            or not all(isinstance(side, int) and side > 0 for side in sides)
        ):
            raise ModelError(f"{WHAT}: {self._folder} does not say its pictures' size: set model.size")
        return sides[0], sides[1]


@dataclass(frozen=True)
class _Call:
    """One call of a network: its dtype, its labels, its sign, and of a learnt variance only the mean.

    Attributes:
        labels: its own labels by the run's; empty for an unconditional network.
        any_class: its label for "any class"; None where it has none.
    """

    network: nn.Module
    dtype: torch.dtype
    sign: float
    channels: int
    labels: Mapping[int, int]
    any_class: int | None

    def __call__(self, y: Tensor, time: float, labels: Tensor | None) -> Tensor:
        options: dict[str, Any] = {"class_labels": self._own(labels, y)} if self.labels else {}
        at = torch.tensor(time, dtype=torch.float32, device=y.device)
        output: Tensor = self.network(y.to(self.dtype), at, return_dict=False, **options)[0]
        return self.sign * output[:, : self.channels].float()

    def _own(self, labels: Tensor | None, y: Tensor) -> Tensor:
        if labels is not None:
            own = torch.tensor([self.labels[label] for label in range(len(self.labels))], device=y.device)
            return own[labels]
        if self.any_class is None:
            raise ModelError("this model has learnt no label for any class: ask with labels and a guidance of 1")
        return torch.full((len(y),), self.any_class, device=y.device)


class DiffusersExpert:
    """A network of diffusers at the marginals of a run (a `fednet.diffusion.expert.ScoreExpert`).

    Attributes:
        card: what it is.
        shape: channels, height and width of its pictures.
        classes: how many labels of the run it takes.
    """

    def __init__(
        self, call: _Call, form: Parametrisation, sde: SDE, card: ExpertCard, shape: tuple[int, int, int]
    ) -> None:
        self._call, self._form, self._sde = call, form, sde
        self.card, self.shape, self.classes = card, shape, len(call.labels)

    def score(self, x: Tensor, t: Tensor, labels: Tensor | None = None, guidance: float = 1.0) -> Tensor:
        """The score; see `ScoreExpert`.

        Raises:
            ModelError: it was asked for any class, which it has not learnt.
        """
        alpha, std = (float(value) for value in self._sde.marginal(t.double().cpu()))

        def predict(y: Tensor, time: float) -> Tensor:
            output = self._call(y, time, labels)
            if labels is None or guidance == 1.0:
                return output
            free = self._call(y, time, None)
            return free + guidance * (output - free)

        return self._form.score(predict, x, alpha, std)
