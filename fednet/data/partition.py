"""Divides a training set among agents, exactly and reproducibly. Knows labels only, never a picture.

    iid            shuffled and cut into K parts that differ by at most one picture
    pathological   every agent sees exactly `classes_per_client` classes, which are dealt (PFLlib; McMahan et al.
                   2017, section 3, call so what is `shards` here)
    dirichlet      each class is cut by a draw from Dir(alpha) over the agents (Hsu et al. 2019, Yurochkin et
                   al. 2019), drawn again until every agent has `least` pictures
    shards         the label-sorted pictures are cut into equal shards, of which `shards_per_client` are dealt to
                   every agent (McMahan et al. 2017, section 3)
    matrix         by an agent x class matrix of fractions
    homogeneous    1/K of every class to every agent
    heterogeneous  half of a class to its owners, the other half to everyone else in equal parts; with ten agents
                   and ten classes half of the own class and 1/18 of every other (FederatedInference's regime)
    disjoint       consecutive classes in K groups, each wholly one agent's (two digits each at five agents)

All but `iid` and `shards` are matrices of fractions, and one function turns fractions into pictures. A fraction
becomes a whole number by the largest remainder, so no agent collects what the rounding left over.

Sizes may be unequal (`balanced: false`), as PFLlib (Zhang et al. 2025, `dataset/utils/dataset_utils.py`) draws
them: all but one agent get between a tenth of an even part and an even part, one gets the rest; of the pictures in
`iid`, of each of its classes in `pathological`, of the shards in `shards`. PFLlib's unbalanced "IID" cuts every
class so, which skews labels too; that is `pathological` with all classes. Its last client is always the largest;
here it is a drawn one. Its `dirichlet` gives nothing more to an agent that has an even part: `balanced: true`.

`imbalance` makes classes rare before all that (`fednet.data.imbalance`), `train_ratio` splits what an agent has
after it (`fednet.data.local_split`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fednet.data.classes import label_of
from fednet.data.config import PartitionConfig
from fednet.data.fractions import Matrix, capped, fractions
from fednet.data.imbalance import keep
from fednet.data.sizes import apportion, random_sizes
from fednet.errors import DataError
from fednet.seeds import derive, generator

DRAWS = 1000
"""How often a Dirichlet division is drawn again before it is called impossible."""


def partition(
    labels: Tensor, config: PartitionConfig, agents: int, seed: int, classes: Sequence[str] = ()
) -> tuple[Tensor, ...]:
    """Divides the pictures with these labels among agents.

    Args:
        labels: int64 (n,), classes 0 to the largest label.
        config: the regime.
        agents: how many agents, K.
        seed: the run's seed; the division depends on it and on nothing else.
        classes: the classes' names, which `imbalance` may use; without, they are called by their numbers.

    Returns:
        K sorted int64 index tensors without overlap. Together they are all of the pictures that `imbalance` keeps,
        except where the matrix of kind "matrix" gives out less than the whole of a class.

    Raises:
        DataError: the regime is impossible with these labels and this many agents.
    """
    _check_labels(labels)
    names = tuple(classes) or tuple(map(str, range(int(labels.max()) + 1)))
    rare = {label_of(name, names, "partition.imbalance"): part for name, part in config.imbalance.items()}
    kept = keep(labels, rare, seed)
    _check_agents(len(kept), config, agents)
    shares = _shares(labels[kept], config, agents, seed)
    _check_least(shares, config)
    return tuple(kept[share] for share in shares)


def divide(labels: Tensor, matrix: Matrix, seed: int) -> list[Tensor]:
    """Cuts every class by its column of fractions (K, classes); sorted indices per agent."""
    sizes = np.zeros(len(matrix), dtype=np.int64)
    shares: list[list[Tensor]] = [[] for _ in matrix]
    for label in range(matrix.shape[1]):
        members = (labels == label).nonzero().flatten()
        counts = apportion(matrix[:, label] * len(members), sizes)
        sizes += counts
        order = torch.randperm(len(members), generator=generator(seed, "partition", label))
        cuts = np.cumsum(counts).tolist()
        for share, part in zip(shares, members[order].tensor_split(cuts)[:-1], strict=True):
            share.append(part)
    return [torch.cat(share).sort().values for share in shares]


def _shares(labels: Tensor, config: PartitionConfig, agents: int, seed: int) -> list[Tensor]:
    if config.kind == "iid":
        return _iid(labels, config, agents, seed)
    if config.kind == "shards":
        return _shards(labels, config, agents, seed)
    if config.kind == "dirichlet":
        return _dirichlet(labels, config, agents, seed)
    return divide(labels, fractions(labels, config, agents, seed), seed)


def _iid(labels: Tensor, config: PartitionConfig, agents: int, seed: int) -> list[Tensor]:
    order = torch.randperm(len(labels), generator=generator(seed, "partition"))
    parts = order.tensor_split(agents)
    if config.balanced is False:
        parts = order.tensor_split(_cuts(len(labels), agents, config.least, seed))
    return [part.sort().values for part in parts]


def _shards(labels: Tensor, config: PartitionConfig, agents: int, seed: int) -> list[Tensor]:
    count = agents * (config.shards_per_client or 1)
    if count > len(labels):
        raise DataError(
            f"partition shards: {len(labels)} pictures cannot be cut into {count} shards, "
            f"{config.shards_per_client} for each of {agents} agents: lower shards_per_client or take fewer agents"
        )
    chance = generator(seed, "partition", "shards")
    shuffled = torch.randperm(len(labels), generator=chance)
    shards = shuffled[labels[shuffled].argsort(stable=True)].tensor_split(count)
    dealt = torch.randperm(count, generator=chance)
    hands = dealt.tensor_split(agents)
    if config.balanced is False:
        hands = dealt.tensor_split(_cuts(count, agents, 1, seed))
    return [torch.cat([shards[shard] for shard in hand]).sort().values for hand in hands]


def _cuts(total: int, agents: int, least: int, seed: int) -> list[int]:
    """Where to cut a row of `total` so that the agents get unequal parts of it; the largest is a drawn one's."""
    rng = np.random.default_rng(derive(seed, "partition", "sizes"))
    counts = rng.permutation(random_sizes(total, agents, least, rng))
    return [int(cut) for cut in np.cumsum(counts)[:-1]]


def _dirichlet(labels: Tensor, config: PartitionConfig, agents: int, seed: int) -> list[Tensor]:
    rng = np.random.default_rng(derive(seed, "partition", "dirichlet"))
    alpha = np.full(agents, config.alpha or 0.0)
    counts = torch.bincount(labels).numpy()
    for _ in range(DRAWS):
        matrix = rng.dirichlet(alpha, size=len(counts)).T
        if config.balanced:
            matrix = capped(matrix, counts)
        if np.isfinite(matrix).all() and (matrix @ counts).min() > config.least - 1:
            shares = divide(labels, matrix, seed)
            if min(len(share) for share in shares) >= config.least:
                return shares
    raise DataError(
        f"partition dirichlet with alpha {config.alpha:g}: in {DRAWS} draws no division of {len(labels)} pictures "
        f"gave each of {agents} agents at least {config.least}; raise alpha, lower least or take fewer agents"
    )


def _check_labels(labels: Tensor) -> None:
    if labels.ndim != 1 or labels.dtype != torch.int64 or len(labels) == 0 or int(labels.min()) < 0:
        raise DataError(
            f"labels to divide must be a non-empty int64 (n,) of classes from 0 on; "
            f"got {labels.dtype} of shape {tuple(labels.shape)}"
        )


def _check_agents(pictures: int, config: PartitionConfig, agents: int) -> None:
    if agents < 1:
        raise DataError(f"data cannot be divided among {agents} agents: at least one is needed")
    if agents * config.least > pictures:
        raise DataError(
            f"{pictures} pictures cannot give each of {agents} agents at least {config.least}: "
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
