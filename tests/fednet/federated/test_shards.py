"""Cutting and joining is the identity; shards are of equal size and nothing is in two of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fednet.errors import ModelError
from fednet.federated.shards import join, split
from fednet.federated.state import digest, pack, unpack

Draw = Callable[..., dict[str, Tensor]]


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 4), max_size=3), max_size=5), st.integers(1, 9))
def test_join_undoes_split(shapes: list[list[int]], count: int) -> None:
    state = {f"t{i}": torch.arange(torch.Size(shape).numel()).reshape(shape) + i for i, shape in enumerate(shapes)}
    shards = split(state, count)
    sizes = [sum(tensor.numel() for tensor in shard.values()) for shard in shards]
    assert len(shards) == count
    assert max(sizes) - min(sizes) <= 1
    assert sum(sizes) == sum(tensor.numel() for tensor in state.values())
    assert all(tensor.dim() == 1 and len(tensor) for shard in shards for tensor in shard.values())
    assert digest(join(shards, state)) == digest(state)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 5000])
def test_every_dtype_and_rank_survives_the_way(state: Draw, count: int) -> None:
    whole = state(3)
    shards = [unpack(pack(shard)) for shard in split(dict(reversed(whole.items())), count)]
    again = join(shards, whole)
    assert list(again) == list(whole)
    assert digest(again) == digest(whole)


def test_shards_are_views_and_the_whole_is_none() -> None:
    state = {"w": torch.zeros(2, 3)}
    shards = split(state, 2)
    state["w"].add_(1)
    assert [shard["w"].tolist() for shard in shards] == [[1] * 3] * 2
    join(shards, state)["w"].zero_()
    assert state["w"].sum() == 6
    assert split({"w": torch.arange(6.0).reshape(2, 3).t()}, 1)[0]["w"].tolist() == [0, 3, 1, 4, 2, 5]


@pytest.mark.parametrize(
    "change",
    [
        lambda shards: shards[:-1],
        lambda shards: shards[::-1],
        lambda shards: [*shards[:-1], {"w": torch.zeros(3, dtype=torch.float64)}],
        lambda shards: [{**shards[0], "x": torch.zeros(1)}, shards[1]],
        lambda _: [],
    ],
)
def test_other_shards_are_refused(change: Callable[[list[dict[str, Tensor]]], list[dict[str, Tensor]]]) -> None:
    state = {"a": torch.zeros(2), "w": torch.zeros(4)}
    with pytest.raises(ModelError, match="shard"):
        join(change(list(split(state, 2))), state)


def test_no_shards_are_an_error() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        split({}, 0)
