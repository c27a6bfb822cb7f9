"""Agent x class matrices of fractions for the partition regimes that have one.

`fednet.data.partition` describes the regimes and turns fractions into indices.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fednet.data.config import PartitionConfig
from fednet.data.sizes import random_sizes
from fednet.errors import DataError
from fednet.seeds import derive, generator

Matrix = NDArray[np.float64]


def fractions(labels: Tensor, config: PartitionConfig, agents: int, seed: int) -> Matrix:
    """The agent x class matrix of a regime that has one: float64 (K, classes).

    Raises:
        DataError: the regime does not exist for this many agents and classes, or has no fixed matrix.
    """
    classes = int(labels.max()) + 1
    if config.kind == "matrix":
        return _given(config, agents, classes)
    if config.kind == "pathological":
        holds = _dealt(config.classes_per_client or 1, agents, classes, seed)
        return _even(holds) if config.balanced is not False else _uneven(holds, labels, config, seed)
    if config.kind == "homogeneous":
        return np.full((agents, classes), 1 / agents)
    if config.kind == "heterogeneous":
        return _heterogeneous(agents, classes)
    if config.kind == "disjoint":
        return _disjoint(agents, classes)
    raise DataError(f"partition '{config.kind}' has no fixed matrix of fractions")


def capped(matrix: Matrix, counts: NDArray[np.int64]) -> Matrix:
    """Gives an agent nothing more once it has an even part of all pictures; the others share what it would get.

    Classes are gone through in order, so that no agent ends with more than an even part and one class (Yurochkin
    et al. 2019, whose code PFLlib follows).

    Args:
        matrix: float64 (K, classes), the columns add up to 1.
        counts: int64 (classes,), how many pictures of each class.

    Returns:
        float64 (K, classes), the columns add up to 1; not finite where all who may get more have a fraction of 0.
    """
    result, held, even = matrix.copy(), np.zeros(len(matrix)), counts.sum() / len(matrix)
    for label, count in enumerate(counts):
        result[held >= even, label] = 0.0
        with np.errstate(invalid="ignore"):
            result[:, label] /= result[:, label].sum()
        held += result[:, label] * count
    return result


def _given(config: PartitionConfig, agents: int, classes: int) -> Matrix:
    matrix = np.array(config.matrix, dtype=np.float64)
    if matrix.shape != (agents, classes):
        raise DataError(
            f"partition matrix has {matrix.shape[0]} rows and {matrix.shape[1]} columns; expected one row for each "
            f"of {agents} agents and one column for each of {classes} classes"
        )
    return matrix


def _dealt(per_client: int, agents: int, classes: int, seed: int) -> Matrix:
    """0/1 matrix of which agent gets which class: classes with the fewest agents first, in a random order."""
    if per_client > classes or per_client * agents < classes:
        raise DataError(
            f"partition pathological: {agents} agents with {per_client} classes each cannot hold {classes} classes; "
            f"classes_per_client must lie in {-(-classes // agents)} to {classes}"
        )
    chance, taken = generator(seed, "partition", "deal"), np.zeros(classes, dtype=np.int64)
    holds: Matrix = np.zeros((agents, classes))
    for agent in range(agents):
        shuffled = torch.randperm(classes, generator=chance).tolist()
        chosen = sorted(shuffled, key=lambda label: taken[label])[:per_client]
        holds[agent, chosen] = 1.0
        taken[chosen] += 1
    return holds


def _even(holds: Matrix) -> Matrix:
    matrix: Matrix = holds / holds.sum(axis=0)
    return matrix


def _uneven(holds: Matrix, labels: Tensor, config: PartitionConfig, seed: int) -> Matrix:
    """Unequal parts of each class for its agents; the remainder goes to the last one in a random order."""
    rng = np.random.default_rng(derive(seed, "partition", "sizes"))
    line, least = rng.permutation(len(holds)), config.least / (config.classes_per_client or 1)
    matrix: Matrix = np.zeros_like(holds)
    for label, count in enumerate(torch.bincount(labels).tolist()):
        holders = line[holds[line, label] > 0]
        matrix[holders, label] = random_sizes(count, len(holders), least, rng) / max(count, 1)
    return matrix


def _heterogeneous(agents: int, classes: int) -> Matrix:
    owns: Matrix = _disjoint(agents, classes) if agents <= classes else np.zeros((agents, classes))
    if agents > classes:
        owns[np.arange(agents), np.arange(agents) % classes] = 1.0
    others = 1.0 - owns
    own_part = np.where(others.any(axis=0), 0.5, 1.0)
    matrix: Matrix = own_part * owns / owns.sum(axis=0) + 0.5 * others / np.maximum(others.sum(axis=0), 1)
    return matrix


def _disjoint(agents: int, classes: int) -> Matrix:
    if agents > classes:
        raise DataError(
            f"partition disjoint gives every agent classes of its own: {classes} classes are not enough "
            f"for {agents} agents"
        )
    matrix = np.zeros((agents, classes))
    for agent, own in enumerate(np.array_split(np.arange(classes), agents)):
        matrix[agent, own] = 1.0
    return matrix
