"""A LoRA adapter: identity at first, trains alone, is saved bit for bit, and detaches without a trace."""

from __future__ import annotations

from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from fednet.errors import ModelError
from fednet.methods.cmtii.adapters import LoraAdapter, LoraAdapterConfig
from fednet.seeds import generator

CONFIG = LoraAdapterConfig(rank=2, alpha=4.0)
IMAGES = torch.randn(3, 3, 8, 8, generator=generator(0, "images"))


def encoder(seed: int = 0) -> nn.Module:
    vision = {"image_size": 8, "layers": 2, "width": 16, "head_width": 8, "patch_size": 4}
    text = {"context_length": 8, "vocab_size": 9, "width": 8, "heads": 1, "layers": 1}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        visual: nn.Module = open_clip.CLIP(12, vision, text).eval().visual
        return visual


def features(net: nn.Module, *, half: bool = False) -> Tensor:
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        out: Tensor = net(IMAGES)
        return out


def train(net: nn.Module, adapter: LoraAdapter, *, half: bool = False) -> None:
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            out: Tensor = net(IMAGES)
        out.float().square().mean().backward()
        optimizer.step()


def test_it_begins_as_the_identity() -> None:
    net = encoder()
    before = features(net)
    LoraAdapter(net, CONFIG, seed=0)
    assert torch.equal(features(net), before)


def test_only_the_adapter_trains() -> None:
    net, untouched = encoder(), encoder()
    adapter = LoraAdapter(net, CONFIG, seed=0)
    names = {name for name, value in net.named_parameters() if value.requires_grad}
    assert names
    assert all(".lora_" in name for name in names)
    before = adapter.state()
    train(net, adapter)
    after = adapter.state()
    assert all(not torch.equal(before[name], after[name]) for name in before)
    assert not torch.equal(features(net), features(untouched))
    adapter.detach()
    assert torch.equal(features(net), features(untouched))
    assert net.state_dict().keys() == untouched.state_dict().keys()
    assert all(torch.equal(net.state_dict()[name], value) for name, value in untouched.state_dict().items())


def test_many_passes_leave_the_encoders_weights_alone() -> None:
    """Every pass of peft adds and subtracts, which rounds: without the restored weights this drifts."""
    net = encoder()
    adapter = LoraAdapter(net, CONFIG, seed=0)
    train(net, adapter)
    first = features(net)
    for _ in range(20):
        features(net)
    assert torch.equal(features(net), first)


def test_a_saved_adapter_gives_the_same_features(tmp_path: Path) -> None:
    net = encoder()
    adapter = LoraAdapter(net, CONFIG, seed=0)
    train(net, adapter)
    adapter.save(tmp_path / "adapter.safetensors")
    again = encoder()
    loaded = LoraAdapter(again, CONFIG, seed=1)
    loaded.load(tmp_path / "adapter.safetensors")
    assert torch.equal(features(again), features(net))
    loaded.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "adapter.safetensors").read_bytes()


def test_a_merged_adapter_stays_in_the_weights() -> None:
    net = encoder()
    adapter = LoraAdapter(net, CONFIG, seed=0)
    train(net, adapter)
    tuned = features(net)
    adapter.merge()
    torch.testing.assert_close(features(net), tuned)
    assert net.state_dict().keys() == encoder().state_dict().keys()
    assert not torch.equal(features(net), features(encoder()))


def test_half_precision_trains_it_and_leaves_the_weights_alone() -> None:
    net, untouched = encoder(), encoder()
    adapter = LoraAdapter(net, CONFIG, seed=0)
    train(net, adapter, half=True)
    assert not torch.equal(features(net, half=True), features(untouched, half=True))
    assert all(value.dtype == torch.float32 and value.any() for value in adapter.state().values())
    adapter.detach()
    assert torch.equal(features(net), features(untouched))


def test_it_is_initialised_by_its_seed_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    states = [LoraAdapter(encoder(), CONFIG, seed).state() for seed in (0, 0, 1)]
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert any(not torch.equal(states[0][name], states[2][name]) for name in states[0])


def test_files_for_another_encoder_or_rank_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "adapter.safetensors"
    LoraAdapter(encoder(), CONFIG, seed=0).save(path)
    with pytest.raises(ModelError, match="for another model's image encoder"):
        LoraAdapter(encoder(seed=1), CONFIG, seed=0).load(path)
    with pytest.raises(ModelError, match="rank=2"):
        LoraAdapter(encoder(), LoraAdapterConfig(rank=3, alpha=4.0), seed=0).load(path)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(ModelError, match=r"cannot be used.*LoraAdapter\.save"):
        LoraAdapter(encoder(), CONFIG, seed=0).load(path)
    with pytest.raises(ModelError, match="cannot be"):
        LoraAdapter(encoder(), CONFIG, seed=0).load(tmp_path / "nothing")


def test_states_that_do_not_fit_change_nothing() -> None:
    net = encoder()
    adapter = LoraAdapter(net, CONFIG, seed=0)
    before = features(net)
    bad = adapter.state()
    bad[max(bad)][0, 0] = float("nan")
    with pytest.raises(ModelError, match=r"theirs: tensor .* not finite"):
        adapter.take(bad, "theirs")
    with pytest.raises(ModelError, match=r"theirs: tensor .* is missing"):
        adapter.take({}, "theirs")
    assert torch.equal(features(net), before)


def test_one_adapter_at_a_time_and_only_where_there_is_attention() -> None:
    net = encoder()
    first = LoraAdapter(net, CONFIG, seed=0)
    with pytest.raises(ModelError, match="has an adapter already"):
        LoraAdapter(net, CONFIG, seed=0)
    first.detach()
    LoraAdapter(net, CONFIG, seed=0)
    with pytest.raises(ModelError, match="Linear has no MultiheadAttention"):
        LoraAdapter(nn.Linear(2, 2), CONFIG, seed=0)
