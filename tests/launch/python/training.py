"""A tiny training loop for tests of `fednet.join`: `python training.py CONFIG NAME OUT [ROUND]` dies in that round."""

from __future__ import annotations

import os
import signal
import sys

import torch
from torch import nn

import fednet

METHOD = "fednet.methods.external_training.method"


def points(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """What a site has: as many points as its number says, on one line."""
    number = int(name[1:])
    x = torch.linspace(number - 1, number, number + 2).unsqueeze(1)
    return x, 2 * x + 1


def model(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Linear(1, 1)


def train(module: nn.Module, name: str) -> float:
    """Some steps of gradient descent; returns the loss."""
    x, y = points(name)
    for _ in range(5):
        loss = (module(x) - y).square().mean()
        parameters = list(module.parameters())
        with torch.no_grad():
            for parameter, slope in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
                parameter.sub_(slope, alpha=0.02)
    return loss.item()


def main(config: str, name: str, out: str, dies_in: str = "0") -> None:
    module = model()
    with fednet.join(config, name=name, out=out) as run:
        for r in run.rounds(module):
            if r.number == int(dies_in):
                os.kill(os.getpid(), signal.SIGKILL)
            r.done(weight=len(points(name)[0]), loss=train(module, name))
    print(*(float(parameter).hex() for parameter in module.parameters()))  # noqa: T201 - for the test


if __name__ == "__main__":
    main(*sys.argv[1:])
