"""Divides a training set among agents, exactly and reproducibly. Knows labels only, never a picture.

    iid            shuffled and cut into K parts that differ by at most one picture
    pathological   every agent sees exactly `classes_per_client` classes (McMahan et al. 2017, section 3; there two
                   shards of the label-sorted data, which may touch more classes; here the classes are dealt)
    dirichlet      each class is cut by a draw from Dir(alpha) over the agents (Hsu et al. 2019, Yurochkin et
                   al. 2019), drawn again until every agent has `least` pictures
    matrix         by an agent x class matrix of fractions
    homogeneous    1/K of every class to every agent
    heterogeneous  half of a class to its owners, the other half to everyone else in equal parts; with ten agents
                   and ten classes half of the own class and 1/18 of every other (FederatedInference's regime)
    disjoint       consecutive classes in K groups, each wholly one agent's (two digits each at five agents)

All but `iid` are matrices of fractions, and one function turns fractions into pictures. A fraction becomes a
whole number by the largest remainder, so no agent collects what the rounding left over.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fednet.data.config import PartitionConfig
from fednet.errors import DataError
from fednet.seeds import derive, generator

Matrix = NDArray[np.float64]
DRAWS = 1000
"""How often a Dirichlet division is drawn again before it is called impossible."""


def partition(labels: Tensor, config: PartitionConfig, agents: int, seed: int) -> tuple[Tensor, ...]:
    """Divides the pictures with these labels among agents.

    Args:
        labels: int64 (n,), classes 0 to the largest label.
        config: the regime.
        agents: how many agents, K.
        seed: the run's seed; the division depends on it and on nothing else.

    Returns:
        K sorted int64 index tensors without overlap. Together they are all of the pictures, except where the
        matrix of kind "matrix" gives out less than the whole of a class.

    Raises:
        DataError: the regime is impossible with these labels and this many agents.
    """
    _check(labels, config, agents)
    if config.kind == "iid":
        shares = list(torch.randperm(len(labels), generator=generator(seed, "partition")).tensor_split(agents))
        shares = [share.sort().values for share in shares]
    elif config.kind == "dirichlet":
        shares = _dirichlet(labels, config, agents, seed)
    else:
        shares = divide(labels, fractions(labels, config, agents, seed), seed)
    _check_least(shares, config)
    return tuple(shares)


def fractions(labels: Tensor, config: PartitionConfig, agents: int, seed: int) -> Matrix:
    """The agent x class matrix of a regime that has one: float64 (K, classes).

    Raises:
        DataError: the regime does not exist for this many agents and classes, or is "iid" or "dirichlet".
    """
    classes = int(labels.max()) + 1
    if config.kind == "matrix":
        return _given(config, agents, classes)
    if config.kind == "pathological":
        return _pathological(config.classes_per_client or 1, agents, classes, seed)
    if config.kind == "homogeneous":
        return np.full((agents, classes), 1 / agents)
    if config.kind == "heterogeneous":
        return _heterogeneous(agents, classes)
    if config.kind == "disjoint":
        return _disjoint(agents, classes)
    raise DataError(f"partition '{config.kind}' has no fixed matrix of fractions")


def divide(labels: Tensor, matrix: Matrix, seed: int) -> list[Tensor]:
    """Cuts every class by its column of fractions (K, classes); sorted indices per agent."""
    sizes = np.zeros(len(matrix), dtype=np.int64)
    shares: list[list[Tensor]] = [[] for _ in matrix]
    for label in range(matrix.shape[1]):
        members = (labels == label).nonzero().flatten()
        counts = _whole(matrix[:, label] * len(members), sizes)
        sizes += counts
        order = torch.randperm(len(members), generator=generator(seed, "partition", label))
        cuts = np.cumsum(counts).tolist()
        for share, part in zip(shares, members[order].tensor_split(cuts)[:-1], strict=True):
            share.append(part)
    return [torch.cat(share).sort().values for share in shares]


def _whole(wanted: Matrix, sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rounds to whole numbers with the rounded sum: largest remainder first, then who has least so far."""
    counts = np.floor(wanted + 1e-9).astype(np.int64)
    missing = round(float(wanted.sum())) - int(counts.sum())
    remainder = np.round(wanted - counts, 9)
    open_ = [k for k in range(len(wanted)) if wanted[k] > 0]
    order = sorted(open_, key=lambda k: (-remainder[k], sizes[k] + counts[k], k))
    for k in order[:missing]:
        counts[k] += 1
    return counts


def _dirichlet(labels: Tensor, config: PartitionConfig, agents: int, seed: int) -> list[Tensor]:
    rng = np.random.default_rng(derive(seed, "partition", "dirichlet"))
    alpha = np.full(agents, config.alpha or 0.0)
    counts = torch.bincount(labels).numpy()
    for _ in range(DRAWS):
        matrix = rng.dirichlet(alpha, size=len(counts)).T
        if np.isfinite(matrix).all() and (matrix @ counts).min() > config.least - 1:
            shares = divide(labels, matrix, seed)
            if min(len(share) for share in shares) >= config.least:
                return shares
    raise DataError(
        f"partition dirichlet with alpha {config.alpha:g}: in {DRAWS} draws no division of {len(labels)} pictures "
        f"gave each of {agents} agents at least {config.least}; raise alpha, lower least or take fewer agents"
    )


def _given(config: PartitionConfig, agents: int, classes: int) -> Matrix:
    matrix = np.array(config.matrix, dtype=np.float64)
    if matrix.shape != (agents, classes):
        raise DataError(
            f"partition matrix has {matrix.shape[0]} rows and {matrix.shape[1]} columns; expected one row for each "
            f"of {agents} agents and one column for each of {classes} classes"
        )
    return matrix


def _pathological(per_client: int, agents: int, classes: int, seed: int) -> Matrix:
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
    matrix: Matrix = holds / holds.sum(axis=0)
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


def _check(labels: Tensor, config: PartitionConfig, agents: int) -> None:
    if labels.ndim != 1 or labels.dtype != torch.int64 or len(labels) == 0 or int(labels.min()) < 0:
        raise DataError(
            f"labels to divide must be a non-empty int64 (n,) of classes from 0 on; "
            f"got {labels.dtype} of shape {tuple(labels.shape)}"
        )
    if agents < 1:
        raise DataError(f"data cannot be divided among {agents} agents: at least one is needed")
    if agents * config.least > len(labels):
        raise DataError(
            f"{len(labels)} pictures cannot give each of {agents} agents at least {config.least}: "
            "take fewer agents, lower partition.least or raise data.limit"
        )


def _check_least(shares: list[Tensor], config: PartitionConfig) -> None:
    short = {agent: len(share) for agent, share in enumerate(shares) if len(share) < config.least}
    if short:
        agent, count = next(iter(short.items()))
        raise DataError(
            f"partition {config.kind} gives agent {agent} {count} pictures, fewer than the {config.least} of "
            "partition.least: take fewer agents, another division, or lower least"
        )
