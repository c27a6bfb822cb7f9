"""Training by noisy sums of clipped per-example gradients (Abadi et al. 2016, arXiv 1607.00133, algorithm 1).

Opacus' `GradSampleModule` makes the gradient of every row; clipping, noise and the division by the expected number of
rows happen here, since Opacus' own secure noise needs a package that few have. The noise comes from a `NoiseSource`.
Refuses modules for which a row's gradient is not that row's alone. Knows no accountant: whoever takes steps has
reserved them in a ledger before.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from fednet.errors import ModelError, PrivacyError
from fednet.privacy.noise import NoiseSource
from fednet.privacy.opacus_parts import GradSampleModule, ModuleValidator

FIXES = {
    "BatchNorm": "it mixes the examples of a batch: use GroupNorm",
    "InstanceNorm": "it keeps running statistics of the examples: use GroupNorm, or track_running_stats=False",
    "LSTM": "use opacus.layers.DPLSTM",
    "GRU": "use opacus.layers.DPGRU",
    "RNN": "use opacus.layers.DPRNN",
    "MultiheadAttention": "use opacus.layers.DPMultiheadAttention",
}
"""What to do about a module whose class name holds a word."""


def require_supported(module: nn.Module, name: str) -> None:
    """Checks that the gradient of every row can be had, and is of that row alone.

    Args:
        module: to be trained.
        name: how a message calls it.

    Raises:
        PrivacyError: it cannot; names the part and what to use instead.
    """
    for path, part in module.named_modules():
        if reason := _fault(part):
            raise PrivacyError(f"{name}{'.' if path else ''}{path} is a {type(part).__name__}: {reason}")
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise PrivacyError(f"{name} has no parameters to train")


def _fault(part: nn.Module) -> str | None:
    """Why a part of a module cannot be trained privately; None where it can."""
    kind, check = type(part).__name__, ModuleValidator.VALIDATORS.get(type(part))
    faults: list[object] = list(check(part)) if check is not None else []
    if faults or isinstance(part, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001 - the base of all of them
        fix = next((fix for word, fix in FIXES.items() if word in kind), None)
        return fix or f"Opacus refuses it ({faults[0]})"
    if getattr(part, "inplace", False):
        return "it overwrites what the gradient of a row needs: use inplace=False"
    own = [parameter for parameter in part.parameters(recurse=False) if parameter.requires_grad]
    if own and any(True for _ in part.buffers(recurse=False)):
        return "it keeps buffers that depend on the examples without noise: use a module without buffers"
    return None


class PrivateTrainer:
    """Takes noisy steps with one module.

    One step is `losses = f(trainer.rows(inputs))` and `trainer.step(losses)`: one forward pass over all rows, one loss
    a row, one backward pass. A private example may have one row, and no other row may depend on whether it is there.

    Args:
        module: rows (n, ...) -> (n, ...), supported (see `require_supported`); it is put into training mode.
        optimiser: makes the optimiser of the module's parameters.
        clip: the largest norm of a row's gradient, > 0; rows of larger ones are scaled down.
        noise: the deviation of the noise in units of `clip`, at least 0; 0 is not private.
        expected: the expected number of rows, by which the sum is divided; not the number that came, which is secret.
        source: of the noise.
        name: how messages call the module.

    Raises:
        PrivacyError: the module is not supported, or a number makes no sense.
    """

    def __init__(
        self,
        module: nn.Module,
        optimiser: Callable[[Iterator[nn.Parameter]], Optimizer],
        *,
        clip: float,
        noise: float,
        expected: float,
        source: NoiseSource,
        name: str = "the module",
    ) -> None:
        require_supported(module, name)
        if not (clip > 0 and noise >= 0 and expected > 0):
            raise PrivacyError(
                f"clip {clip} and the expected rows {expected} are above 0, the noise {noise} is at least 0"
            )
        self.module = module.train()
        self._wrapped = GradSampleModule(module, loss_reduction="sum")
        self._wrapped.disable_hooks()
        self._parameters = {n: p for n, p in module.named_parameters() if p.requires_grad}
        self._optimiser = optimiser(iter(self._parameters.values()))
        self._clip, self._deviation, self._expected, self._source = clip, noise * clip, expected, source
        self._name, self._pending = name, False

    def rows(self, inputs: Tensor) -> Tensor:
        """What the module makes of the rows (n, ...) of one step, n > 0, with a view to `step`.

        Raises:
            PrivacyError: the step before was not finished: two passes in one step are not accounted for.
        """
        if self._pending:
            raise PrivacyError(f"a second pass through {self._name} in one step: put all rows into one pass")
        self._forget()
        self._pending = True
        self._wrapped.enable_hooks()
        outputs: Tensor = self._wrapped(inputs)
        return outputs

    def step(self, losses: Tensor) -> None:
        """One noisy step.

        Args:
            losses: one for each row, (n,), each a function of that row alone.

        Raises:
            PrivacyError: the losses are not of the rows of `rows`.
        """
        if not self._pending or losses.ndim != 1:
            raise PrivacyError(f"a step needs the losses (n,) of the rows just passed; got {tuple(losses.shape)}")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # no gradient is wanted with respect to the rows
                losses.sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
            self._take(self._summed(len(losses)))
        finally:
            self.drop()

    def step_without_rows(self) -> None:
        """One noisy step with an empty sample: noise alone, as a sample of any other size gets it."""
        self._take({name: torch.zeros_like(parameter) for name, parameter in self._parameters.items()})

    def drop(self) -> None:
        """Gives up a step that was begun."""
        self._wrapped.disable_hooks()
        self._forget()
        self._pending = False

    @contextmanager
    def held(self) -> Iterator[nn.Module]:
        """The module as something that others learn from: gradients pass through it and none are kept."""
        self.drop()
        for parameter in self._parameters.values():
            parameter.requires_grad_(False)
        try:
            yield self.module
        finally:
            for parameter in self._parameters.values():
                parameter.requires_grad_(True)

    def close(self) -> None:
        """Leaves the module as it was before, with what it has learnt."""
        self.drop()
        self._wrapped.remove_hooks()
        for parameter in self._parameters.values():
            for mark in ("grad_sample", "_forward_counter"):
                vars(parameter).pop(mark, None)

    def _summed(self, count: int) -> dict[str, Tensor]:
        """The sum of the clipped rows of all rows, by parameter."""
        return clipped_sum({name: self._of_rows(name, count) for name in self._parameters}, self._clip)

    def _of_rows(self, name: str, count: int) -> Tensor:
        rows = getattr(self._parameters[name], "grad_sample", None)
        if not isinstance(rows, Tensor) or len(rows) != count:
            what = "none" if rows is None else "several passes" if isinstance(rows, list) else f"{len(rows)} rows"
            raise PrivacyError(
                f"{self._name}.{name} has gradients of {what} where {count} rows were passed: use every parameter once"
            )
        return rows

    def _take(self, summed: dict[str, Tensor]) -> None:
        numbers = sum(total.numel() for total in summed.values())
        noise = self._source.gaussian(numbers) * self._deviation if self._deviation else torch.zeros(numbers)
        pieces = torch.split(noise, [total.numel() for total in summed.values()])
        for (name, total), piece in zip(summed.items(), pieces, strict=True):
            parameter = self._parameters[name]
            noisy = total.double() + piece.view(total.shape).to(total.device)
            if not bool(torch.isfinite(noisy).all()):
                raise ModelError(f"the gradient of {self._name}.{name} is not finite: lower the learning rate")
            parameter.grad = (noisy / self._expected).to(parameter.dtype)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)

    def _forget(self) -> None:
        for parameter in self._parameters.values():
            parameter.grad = None
            vars(parameter).update(grad_sample=None, _forward_counter=0)  # Opacus' marks
            vars(parameter).pop("_current_grad_sample", None)
        for part in self.module.modules():
            for mark in ("activations", "max_batch_len"):
                if hasattr(part, mark):
                    delattr(part, mark)


def clipped_sum(gradients: dict[str, Tensor], clip: float) -> dict[str, Tensor]:
    """The sum over rows of gradients, each scaled down to the norm `clip` over all parameters together.

    Args:
        gradients: by parameter, (n, ...) each.
        clip: > 0.

    Returns:
        By parameter, (...) each. A row whose gradient is not finite counts as zero, or one bad row would be seen.
    """
    norms = torch.stack([rows.flatten(1).norm(dim=1) for rows in gradients.values()]).norm(dim=0)
    sound = norms.isfinite()
    factors = torch.where(sound, (clip / norms.clamp(min=1e-12)).clamp(max=1.0), torch.zeros_like(norms))
    return {
        name: torch.einsum("i,i...->...", factors, torch.where(_like(sound, rows), rows, torch.zeros_like(rows)))
        for name, rows in gradients.items()
    }


def _like(mask: Tensor, rows: Tensor) -> Tensor:
    return mask.view(-1, *(1,) * (rows.ndim - 1))
