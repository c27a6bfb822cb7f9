"""Shards: a state split into parts of equal size, one for each peer to reduce.

A shard is a range of elements of the concatenation of all tensors in sorted order of names. A coordinate-wise rule
gives the same bits in shards as on the whole.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fednet.api import ModelState
from fednet.errors import ModelError
from fednet.federated.state_file import flat


def split(state: ModelState, count: int) -> tuple[dict[str, Tensor], ...]:
    """Splits a state into `count` >= 1 shards whose numbers of elements differ by at most one.

    Returns:
        Each shard by name as 1-D slices, views where the tensors are contiguous and on the CPU; names without
        elements in a shard are absent. With more shards than elements some are empty.

    Raises:
        ValueError: a count < 1.
    """
    if count < 1:
        raise ValueError(f"{count} shards: expected at least 1")
    total = sum(tensor.numel() for tensor in state.values())
    bounds = [index * total // count for index in range(count + 1)]
    parts: tuple[dict[str, Tensor], ...] = tuple({} for _ in range(count))
    start, index = 0, 0
    for name, tensor in sorted(state.items()):
        values = flat(tensor)
        end, at = start + len(values), start
        while at < end:
            while bounds[index + 1] <= at:
                index += 1
            stop = min(end, bounds[index + 1])
            parts[index][name] = values[at - start : stop - start]
            at = stop
        start = end
    return parts


def join(shards: Sequence[ModelState], like: ModelState) -> dict[str, Tensor]:
    """Joins the shards of a state.

    Args:
        shards: all shards in order.
        like: a state with the names, shapes and dtypes of the result.

    Returns:
        A new state in the order of `like`.

    Raises:
        ModelError: they are not the shards of such a state.
    """
    expected = split(like, max(1, len(shards)))
    if not shards:
        raise ModelError("no shards to join: expected at least one")
    for index, (shard, wanted) in enumerate(zip(shards, expected, strict=True)):
        if _form(shard) != _form(wanted):
            raise ModelError(
                f"shard {index + 1} of {len(shards)} does not fit the model: use the same model everywhere"
            )
    whole = {}
    for name, tensor in like.items():
        slices = [shard[name] for shard in shards if name in shard]
        values = torch.cat(slices) if slices else torch.empty(0, dtype=tensor.dtype)
        whole[name] = values.reshape(tensor.shape)
    return whole


def _form(shard: ModelState) -> dict[str, tuple[torch.dtype, torch.Size]]:
    return {name: (tensor.dtype, tensor.shape) for name, tensor in shard.items()}
