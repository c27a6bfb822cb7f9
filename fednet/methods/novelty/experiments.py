"""Small measurements of the classifier's rounds, for the method's table: accuracy by round, and FedProx's drift.

Two sites in one process, with the very agents and rounds of a run: one has the labels 0, 1 and half of 2, the other
the other half of 2, 3 and 4. Knows no bus; a run over it gives the same bytes.

Source: McMahan et al. 2017 (arXiv 1602.05629) for the rounds; Li et al. 2020 (arXiv 1812.06127) for the drift.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from fednet.conversations import Network, Silent, Site
from fednet.data.config import DataConfig, PartitionConfig
from fednet.data.datasets import ImageSet, load
from fednet.federated.config import Federation
from fednet.federated.local import local_network
from fednet.methods.novelty import services
from fednet.methods.novelty.agent import NoveltyAgent
from fednet.methods.novelty.config import Config
from fednet.methods.novelty.fitting import FitConfig

LABELS = {"a1": (0, 1, 2), "a2": (2, 3, 4)}
HELD_OUT = 0.2
FITTING = FitConfig(epochs=5)
"""What a site does in a round: with fewer steps FedProx's pull has little to hold."""


def measured(data: DataConfig, seed: int) -> dict[str, float]:
    """The classifier's rows of the table: "round 1" to "round 6", and "drift 0", "drift 0.1", "drift 1" by mu.

    Raises:
        DataError: the data are not there.
    """
    accuracies = accuracy_by_round(data, seed=seed)
    values = {f"round {number}": accuracy for number, accuracy in enumerate(accuracies, 1)}
    return values | {f"drift {mu:g}": first_drift(data, seed=seed, mu=mu) for mu in (0.0, 0.1, 1.0)}


def accuracy_by_round(
    data: DataConfig, *, seed: int, rounds: int = 6, mu: float = 0.0, fitting: FitConfig = FITTING
) -> list[float]:
    """FedAvg (or FedProx): the accuracy on test pictures of 0-4 after each round.

    Args:
        data: digits or mnist; see `few` for 300 pictures a class.
        seed: the run's.
        rounds: how many.
        mu: FedProx's pull.
        fitting: how a site trains in a round.

    Raises:
        DataError: the data are not there.
    """
    test = _known(load(data).test)
    with TemporaryDirectory() as folder:
        network = two_sites(data, seed, fitting, Path(folder))
        accuracies = []
        for number in range(1, rounds + 1):
            services.federate(network, LABELS, key=f"round-{number}", federation=Federation(), mu=mu)
            accuracies.append(services.validate(network, pictures=test, nodes=["a1"])["a1"].accuracy)
        return accuracies


def first_drift(data: DataConfig, *, seed: int, mu: float, fitting: FitConfig = FITTING) -> float:
    """The squared distance that the sites' models go from the common one in the first round, mean over the sites.

    Args:
        data: digits or mnist.
        seed: the run's.
        mu: FedProx's pull; with a larger one they go less far.
        fitting: how a site trains in a round.

    Raises:
        DataError: the data are not there.
    """
    with TemporaryDirectory() as folder:
        network = two_sites(data, seed, fitting, Path(folder))
        (closed,) = services.federate(network, LABELS, key="first", federation=Federation(), mu=mu)
    drifts = [values["drift"] for values in closed.values.values()]
    return sum(drifts) / len(drifts)


def few(data: DataConfig, per_class: int = 300) -> DataConfig:
    """The data, cut to so many pictures of each of ten classes to learn from, beside those that are held out."""
    return data.model_copy(update={"limit": round(10 * per_class / (1 - HELD_OUT))})


def two_sites(data: DataConfig, seed: int, fitting: FitConfig, folder: Path) -> Network:
    """A network of two sites of this process."""
    config = Config(
        data=data,
        partition=PartitionConfig(kind="matrix", matrix=_rows(10)),
        held_out=HELD_OUT,
        classifier=fitting,
    )
    sites = [Site(name, index, len(LABELS), seed, "cpu", folder) for index, name in enumerate(LABELS)]
    agents = {site.name: NoveltyAgent(config, site) for site in sites}
    cards = {name: agent.prepare(Silent()) for name, agent in agents.items()}
    return local_network(agents, cards, seed)


def _rows(classes: int) -> tuple[tuple[float, ...], ...]:
    """Labels that both sites have are halved; those of neither go to nobody."""
    owners = [[float(label in labels) for labels in LABELS.values()] for label in range(classes)]
    return tuple(zip(*([share / max(1.0, sum(row)) for share in row] for row in owners), strict=True))


def _known(test: ImageSet) -> ImageSet:
    labels: Sequence[int] = sorted({label for own in LABELS.values() for label in own})
    return test.subset(torch.isin(test.labels, torch.tensor(labels)).nonzero().flatten())
