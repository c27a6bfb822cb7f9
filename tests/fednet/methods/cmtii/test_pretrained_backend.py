"""The real back-end from its configuration: on the site's device, with two models that share a token table."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from fednet.api import SiteContext
from fednet.errors import ModelError
from fednet.methods.cmtii.adapters import LoraAdapter, LoraAdapterConfig
from fednet.methods.cmtii.pretrained_backend import check, load_pretrained_backend
from fednet.methods.cmtii.pretrained_config import PretrainedBackendConfig
from fednet.seeds import generator

Change = Callable[[Callable[[Path], None]], Path]
pytestmark = pytest.mark.usefixtures("no_network")


@pytest.fixture
def site(tmp_path: Path) -> SiteContext:
    return SiteContext("a", 0, 1, 0, "cpu", tmp_path)


def config(clip_folder: Path, generator_folder: Path, **changes: Any) -> PretrainedBackendConfig:
    return PretrainedBackendConfig(clip=str(clip_folder), image_generator=generator_folder, steps=2, **changes)


def test_a_word_learnt_with_one_model_conditions_the_other(
    clip_folder: Path, generator_folder: Path, site: SiteContext
) -> None:
    backend = load_pretrained_backend(config(clip_folder, generator_folder), site)
    images = torch.rand(4, *backend.shape, generator=generator(0, "images")) * 2 - 1
    word = backend.clip.tokens("pickup truck").requires_grad_()
    before = word.detach().clone()
    optimizer = torch.optim.AdamW([word], lr=0.1)
    classes = [backend.clip.tokens(name) for name in ("cat", "dog")]
    texts = backend.clip.text_features([*classes, word])
    logits = backend.clip.logit_scale * backend.clip.image_features(images) @ texts.T
    contrastive = torch.nn.functional.cross_entropy(logits, torch.full((4,), 2))
    denoising = backend.image_generator.denoising_loss(images, [word] * 4, generator(0, "loss")).mean()
    (contrastive + denoising).backward()
    optimizer.step()
    assert not torch.equal(word.detach(), before)
    generated = backend.image_generator.generate(word.detach(), 3, generator(0, "paint"))
    assert generated.shape == (3, *backend.shape)
    adapter = LoraAdapter(backend.clip.image_encoder, LoraAdapterConfig(), seed=0)
    backend.clip.image_features(generated).sum().backward()
    assert any(value.grad is not None and value.grad.any() for value in adapter.parameters())


def test_a_cpu_computes_in_float32_whatever_is_set(
    clip_folder: Path, generator_folder: Path, site: SiteContext
) -> None:
    features = [
        load_pretrained_backend(config(clip_folder, generator_folder, half=half), site).clip.text_features(
            [torch.ones(1, 16)]
        )
        for half in ("float16", None)
    ]
    assert torch.equal(*features)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_cuda_device_computes_in_halves(clip_folder: Path, generator_folder: Path, tmp_path: Path) -> None:
    site = SiteContext("a", 0, 1, 0, "cuda:0", tmp_path)
    backend = load_pretrained_backend(config(clip_folder, generator_folder), site)
    images = torch.rand(2, *backend.shape, generator=generator(0, "images")) * 2 - 1
    word = backend.clip.tokens("cat").requires_grad_()
    losses = backend.image_generator.denoising_loss(images, [word] * 2, generator(0, "loss"))
    (losses.mean() + backend.clip.text_features([word]).sum()).backward()
    assert word.grad is not None
    assert word.grad.isfinite().all()
    once = backend.image_generator.generate(word, 2, generator(0, "paint"))
    assert once.device.type == "cpu"
    assert torch.equal(once, backend.image_generator.generate(word, 2, generator(0, "paint")))


def test_models_are_checked_before_they_are_loaded(clip_folder: Path, generator_folder: Path, tmp_path: Path) -> None:
    check(config(clip_folder, generator_folder))
    check(
        PretrainedBackendConfig(
            clip="ViT-H-14", checkpoint=clip_folder / "open_clip_model.safetensors", image_generator=generator_folder
        )
    )
    with pytest.raises(ModelError, match="clip: "):
        check(config(tmp_path, generator_folder))
    with pytest.raises(ModelError, match=r"image_generator: .* holds no model_index\.json"):
        check(config(clip_folder, tmp_path))


def test_an_image_generator_with_another_token_table_is_refused(
    clip_folder: Path, generator_folder: Path, changed: Change, site: SiteContext
) -> None:
    def exchange(copy: Path) -> None:
        path = copy / "text_encoder" / "model.safetensors"
        state = load_file(path)
        (name,) = (name for name in state if name.endswith("token_embedding.weight"))
        save_file(state | {name: state[name].flip(0)}, path, {"format": "pt"})

    with pytest.raises(ModelError, match="different token tables \\(agree by a cosine of"):
        load_pretrained_backend(config(clip_folder, changed(exchange)), site)


def test_an_image_generator_of_another_width_is_refused(
    clip_folder: Path, generator_folder: Path, changed: Change, site: SiteContext
) -> None:
    def widen(copy: Path) -> None:
        folder = copy / "text_encoder"
        settings = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(settings | {"hidden_size": 32}))
        path = folder / "model.safetensors"
        wide = {
            name: value.repeat(*[2 if size == 16 else 1 for size in value.shape])
            for name, value in load_file(path).items()
        }
        save_file(wide, path, {"format": "pt"})

    with pytest.raises(ModelError, match=r"have 16 numbers and those of image generator .* 32"):
        load_pretrained_backend(config(clip_folder, changed(widen)), site)
