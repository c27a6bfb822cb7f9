"""An object of Python as a score expert: one with `score(x, t, labels)`, or a denoiser D(x, sigma) (any torch module).

The object comes from a factory that the site's own configuration names; nothing of it travels. A score is that of the
run's x_t at the run's time; a denoiser is the mean of clean data given y = data + sigma z (Karras et al. 2022, arXiv
2206.00364, eq. 3). Knows no site.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from fednet.diffusion.expert import ExpertCard
from fednet.diffusion.parametrisation import Parametrisation, levels_of_sigmas
from fednet.diffusion.sde import SDE
from fednet.errors import ModelError
from fednet.models.config import PythonModelConfig
from fednet.models.own_labels import own_labels

WHAT = "model.object"
DENOISER_SIGMAS = (1e-4, 1e5)
"""Between which a denoiser is asked, in units of its data."""


class PythonModel:
    """An object, made by its factory (a `fednet.models.pretrained.PretrainedModel`).

    Args:
        config: which factory, and what its object is.

    Attributes:
        shape: channels, height and width of its data.
        classes: the names of its classes.
        conditional: whether it takes labels.

    Raises:
        ModelError: there is no such factory, it fails, or what it makes is no expert.
    """

    prompted = False

    def __init__(self, config: PythonModelConfig) -> None:
        self.config, self.shape = config, config.shape
        self.classes, self.conditional = config.classes or (), config.conditional
        if config.conditional and not config.classes:
            raise ModelError(f"{WHAT}: {config.object} takes labels: name them (model.classes)")
        self._object = _made(config)
        self._scores = hasattr(self._object, "score")
        if not self._scores and not callable(self._object):
            raise ModelError(
                f"{WHAT}: {config.object} made a {type(self._object).__name__}; expected an object with "
                "score(x, t, labels), or a denoiser that is called as D(x, sigma)"
            )
        if self._scores and config.range is not None:
            raise ModelError(f"{WHAT}: {config.object} has a score of pictures in [-1, 1]: range is for denoisers")

    def load(self, sde: SDE, device: str, classes: tuple[str, ...]) -> PythonExpert:
        """The object as an expert on a device; see `PretrainedModel`.

        Raises:
            ModelError: the device cannot be used, or the object does not know a class of the run.
        """
        labels = own_labels(self.classes, classes, None, f"{WHAT}: {self.config.object}") if self.conditional else {}
        if isinstance(self._object, nn.Module):
            try:
                self._object = self._object.to(device).eval().requires_grad_(requires_grad=False)
            except (RuntimeError, AssertionError) as error:
                raise ModelError(f"the device {device!r} cannot be used: {error}") from error
        low, high = self.config.range or (-1.0, 1.0)
        card = ExpertCard(
            kind="python",
            network=self.config.object[:120],
            prediction="score" if self._scores else "sample",
            schedule="the run's own" if self._scores else "sigma, continuous",
            value_range=(low, high),
        )
        if self._scores:
            return PythonExpert(self._object.score, None, sde=sde, card=card, shape=self.shape, labels=labels)
        levels = levels_of_sigmas(lambda sigma: sigma, "ve", *DENOISER_SIGMAS, count=16_385)
        form = Parametrisation("sample", levels, (high - low) / 2, (high + low) / 2)
        return PythonExpert(self._object, form, sde=sde, card=card, shape=self.shape, labels=labels)


class PythonExpert:
    """An object at the marginals of a run (a `fednet.diffusion.expert.ScoreExpert`).

    Args:
        function: score(x, t, labels), or D(y, sigma) where there is a form; with labels where it takes any.
        form: how a denoiser is asked; None for a score.
        sde: the run's.
        card: what it is.
        shape: channels, height and width of its data.
        labels: its own labels by the run's; empty where it takes none.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        form: Parametrisation | None,
        *,
        sde: SDE,
        card: ExpertCard,
        shape: tuple[int, int, int],
        labels: Mapping[int, int],
    ) -> None:
        self._function, self._form, self._sde, self._labels = function, form, sde, labels
        self.card, self.shape, self.classes = card, shape, len(labels)

    def score(self, x: Tensor, t: Tensor, labels: Tensor | None = None, guidance: float = 1.0) -> Tensor:
        """The score; see `ScoreExpert`. The object is called with labels None for any class.

        Raises:
            ModelError: the object fails, or answers something else than a tensor of x's shape.
        """
        if labels is None or guidance == 1.0:
            return self._scored(x, t, labels)
        free = self._scored(x, t, None)
        return free + guidance * (self._scored(x, t, labels) - free)

    def _scored(self, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        own = None if labels is None else torch.tensor(list(self._labels.values()), device=x.device)[labels]
        if self._form is None:
            return self._called(x, x, t, own)
        alpha, std = (float(value) for value in self._sde.marginal(t.double().cpu()))
        more = (own,) if self._labels else ()

        def denoised(y: Tensor, sigma: float) -> Tensor:
            return self._called(y, y, torch.tensor(sigma, dtype=y.dtype, device=y.device), *more)

        return self._form.score(denoised, x, alpha, std)

    def _called(self, like: Tensor, *arguments: Tensor | None) -> Tensor:
        try:
            answer = self._function(*arguments)
        except Exception as error:  # somebody else's code may raise anything
            raise ModelError(f"{self.card.network} failed: {type(error).__name__}: {str(error)[:200]}") from error
        if not isinstance(answer, Tensor) or answer.shape != like.shape:
            found = f"a tensor {tuple(answer.shape)}" if isinstance(answer, Tensor) else type(answer).__name__
            raise ModelError(f"{self.card.network} answered {found}; expected a tensor {tuple(like.shape)}")
        return answer.float()


def _made(config: PythonModelConfig) -> Any:
    module, _, name = config.object.partition(":")
    try:
        factory = getattr(import_module(module), name)
    except Exception as error:  # a foreign module may raise anything while it is imported
        raise ModelError(f"{WHAT}: {config.object} cannot be imported: {type(error).__name__}: {error}") from error
    try:
        return factory(**config.options)
    except Exception as error:
        given = ", ".join(config.options) or "no options"
        raise ModelError(
            f"{WHAT}: {config.object} failed with {given}: {type(error).__name__}: {str(error)[:200]}"
        ) from error
