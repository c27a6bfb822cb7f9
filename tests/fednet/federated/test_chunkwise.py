"""Chunk by chunk gives the bits of the whole, for any chunks and every rule; who sends invalid chunks is named."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor

from fednet.errors import MethodError
from fednet.federated import chunkwise, hash_tree, packed_state, robust, state_file
from fednet.federated.blocks import BLOCK
from fednet.federated.chunkwise import ChunkReduction, InvalidChunk, check_chunk
from fednet.federated.config import Krum, Mean, Median, TrimmedMean
from fednet.federated.hash_tree import HashTree, chunk_count, chunk_size
from fednet.federated.packed_state import PackedState
from fednet.federated.state import digest, pack
from fednet.federated.state_file import Layout, StateFile
from fednet.federated.state_storage import StateStorage
from fednet.federated.update_rules import reduce
from fednet.privacy.masking import sum_masked
from fednet.rules.contract import RuleSettings

Draw = Callable[..., dict[str, Tensor]]
WEIGHTS = {"a": 2.0, "b": 5.0, "c": 0.3, "d": 1.0, "e": 7.0}
RULES: list[RuleSettings] = [
    Mean(), Median(), TrimmedMean(trim=0.2), TrimmedMean(trim=0.0), Krum(byzantine=1), Krum(byzantine=1, keep=2),
]  # fmt: skip


@pytest.fixture(params=[1 << 10, 3 * 8 * 1000, 1 << 20])
def _chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (hash_tree, state_file, packed_state, robust, chunkwise):
        monkeypatch.setattr(module, "CHUNK", request.param)


def reduced(rule: RuleSettings | None, states: Mapping[str, dict[str, Tensor]]) -> PackedState:
    """The states, reduced chunk by chunk."""
    files = [StateFile(states[name]) for name in sorted(states)]
    layout = files[0].layout
    reduction = ChunkReduction(rule, layout, {name: WEIGHTS[name] for name in states})
    into = memoryview(bytearray(layout.size))
    spans = [(index * hash_tree.CHUNK, chunk_size(layout.size, index)) for index in range(chunk_count(layout.size))]
    if reduction.passes == 2:
        for index, span in enumerate(spans):
            reduction.measure(index, [file.read(*span) for file in files])
    leaves = b""
    for index, (start, count) in enumerate(spans):
        leaves += reduction.reduce(index, [file.read(start, count) for file in files], into[start : start + count])
    return PackedState.read(StateStorage(into), HashTree(layout.size, leaves))


@pytest.mark.usefixtures("_chunks")
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_chunks_are_the_whole(state: Draw, rule: RuleSettings) -> None:
    states = {name: state(seed, 2 * BLOCK + 13) for seed, name in enumerate(WEIGHTS)}
    packed = reduced(rule, states)
    assert digest(reduce(rule, states, WEIGHTS)) == digest(packed.state) == packed.tree.root


@pytest.mark.usefixtures("_chunks")
def test_signed_zeros_and_infinitesimals_are_the_same_in_chunks() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.tensor([0.0, -0.0, 1e-45, -1e-45, 1.0])
    states = {name: {"w": values[torch.randint(0, 5, (1001,), generator=generator)]} for name in WEIGHTS}
    for rule in RULES:
        assert digest(reduced(rule, states).state) == digest(reduce(rule, states, WEIGHTS))


@pytest.mark.usefixtures("_chunks")
def test_masked_contributions_are_added_up_modulo_two_to_the_32() -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = {name: torch.randint(-(2**31), 2**31, (5001,), generator=generator).to(torch.int32) for name in WEIGHTS}
    packed = reduced(None, {name: {"masked": vector} for name, vector in vectors.items()})
    assert packed.state["masked"].equal(sum_masked(vectors))


def test_too_few_for_krum_and_none_at_all_are_method_errors() -> None:
    layout = Layout.of_state({"w": torch.zeros(3)})
    with pytest.raises(MethodError, match="krum"):
        ChunkReduction(Krum(), layout, {"a": 1.0})
    with pytest.raises(MethodError, match="no contributions"):
        ChunkReduction(Mean(), layout, {})


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"w": torch.tensor([0.0, torch.inf]), "v": torch.zeros(2)}, "tensor 'w' has values that are not finite"),
        ({"w": torch.zeros(2), "v": torch.tensor([torch.nan, 0.0])}, "tensor 'v' has values that are not finite"),
        ({"w": torch.zeros(2), "u": torch.zeros(2)}, "not laid out like the model's"),
        ({"w": torch.zeros(2), "v": torch.zeros(2, 1)}, "not laid out like the model's"),
    ],
)
def test_an_invalid_chunk_names_its_contributor(other: dict[str, Tensor], reason: str) -> None:
    good = {"w": torch.zeros(2), "v": torch.zeros(2)}
    with pytest.raises(InvalidChunk, match=f"b: .*{reason}") as caught:
        reduced(Mean(), {"a": good, "b": other})
    assert caught.value.contributor == "b"


def test_a_false_bool_is_invalid() -> None:
    file = bytearray(pack({"b": torch.tensor([True])}))
    check_chunk(Layout.read(bytes(file)), 0, bytes(file), "a")
    file[-1] = 3
    with pytest.raises(InvalidChunk, match="neither 0 nor 1"):
        check_chunk(Layout.of_state({"b": torch.tensor([True])}), 0, bytes(file), "a")
