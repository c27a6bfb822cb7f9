"""Tiny models: real ones with random weights in their published formats, and embedded ones, hardly pretrained."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from fednet.api import Network, NullProgress, SiteContext
from fednet.federated.local_network import local_network
from fednet.methods.cmtii import inversion
from fednet.methods.cmtii.backend import CmtiiBackend
from fednet.methods.cmtii.backend_selection import load_backend
from fednet.methods.cmtii.config import CmtiiConfig
from fednet.methods.cmtii.site import CmtiiSite
from fednet.methods.cmtii.site_data import CmtiiDataSplit

CLIP_NAME = "tiny-for-tests"
CLIP_CONFIG: dict[str, Any] = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 16, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
SPECIAL = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
"""Where the transformers library names open_clip's tokens differently."""


SMALL: dict[str, Any] = {
    "partition": {"kind": "pathological", "classes_per_client": 4, "train_ratio": 0.75},
    "backend": {
        "kind": "embedded",
        "clip": {
            "vision": 16,
            "vision_layers": 1,
            "text_layers": 1,
            "pretraining": {"steps": 3, "batch": 8, "lr": 1e-3},
        },
        "image_generator": {"channels": [8], "steps": 2, "pretraining": {"steps": 3, "batch": 8, "lr": 1e-3}},
    },
    "learn": {"steps": 2, "batch": 8},
    "tune": {"generated": 6, "steps": 2, "batch": 8, "rank": 2},
    "measure": {"judge_steps": 3},
    "report": {"views": 2},
    "disclose": {"evaluate": {}, "leakage": {}},
}


class Federation:
    """Sites a1, a2, ... that share the digits, prepared in one folder, and their network."""

    def __init__(self, folder: Path, config: CmtiiConfig, count: int) -> None:
        self.config, self.folder = config, folder
        contexts = [SiteContext(f"a{index + 1}", index, count, 0, "cpu", folder) for index in range(count)]
        self.sites = {context.name: CmtiiSite(config, context) for context in contexts}
        self.capabilities = {name: site.prepare(NullProgress()) for name, site in self.sites.items()}
        self.network: Network = local_network(self.sites, self.capabilities)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., CmtiiConfig]:
    """The small configuration; a change of a section is merged into it. All share one store of models."""
    store = tmp_path_factory.mktemp("store")

    def make(**changes: Any) -> CmtiiConfig:
        merged: dict[str, Any] = {**SMALL, "backend": {**SMALL["backend"], "store": store}}
        for key, value in changes.items():
            merged[key] = {**merged.get(key, {}), **value} if isinstance(value, Mapping) else value
        return CmtiiConfig.model_validate(merged)

    return make


@pytest.fixture(scope="module")
def backend(small: Callable[..., CmtiiConfig], tmp_path_factory: pytest.TempPathFactory) -> CmtiiBackend:
    """The embedded models, hardly pretrained."""
    config = small()
    context = SiteContext("a1", 0, 1, 0, "cpu", tmp_path_factory.mktemp("backend"))
    return load_backend(config, context, CmtiiDataSplit(config.data, config.public), NullProgress())


@pytest.fixture(scope="module")
def federation(
    small: Callable[..., CmtiiConfig], tmp_path_factory: pytest.TempPathFactory, quick_inversion: None
) -> Callable[..., Federation]:
    """Makes sites in a folder of their own."""

    def make(count: int = 3, **changes: Any) -> Federation:
        return Federation(tmp_path_factory.mktemp("run"), small(**changes), count)

    return make


@pytest.fixture(scope="module")
def quick_inversion() -> Iterator[None]:
    """Initial words are chosen by one noise draw on four pictures; their choice itself is tested in test_inversion."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inversion, "INIT_IMAGES", 4)
        patch.setattr(inversion, "INIT_NOISE_DRAWS", 1)
        yield


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as open_clip's models are published; its architecture has a name for open_clip, too."""
    folder = tmp_path_factory.mktemp("clip")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = open_clip.CLIP(**CLIP_CONFIG)
    torch.nn.init.normal_(model.token_embedding.weight, generator=torch.Generator().manual_seed(0))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    published = {"model_cfg": CLIP_CONFIG, "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}}
    (folder / "open_clip_config.json").write_text(json.dumps(published))
    (folder / "named").mkdir()
    (folder / "named" / f"{CLIP_NAME}.json").write_text(json.dumps(CLIP_CONFIG))
    open_clip.add_model_config(folder / "named")
    return folder


@pytest.fixture(scope="session")
def generator_folder(tmp_path_factory: pytest.TempPathFactory, clip_folder: Path) -> Path:
    """A Stable Diffusion folder that reads with the CLIP's token table."""
    folder = tmp_path_factory.mktemp("image_generator")
    table = load_file(clip_folder / "open_clip_model.safetensors")["token_embedding.weight"]
    _tokenizer_files(folder / "scratch")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        text_encoder, unet, vae = _text_encoder(), _unet(), _vae()
    text_encoder.get_input_embeddings().weight.data.copy_(table)
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=CLIPTokenizer.from_pretrained(folder / "scratch", local_files_only=True),
        unet=unet,
        scheduler=PNDMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    shutil.rmtree(folder / "tokenizer")
    (folder / "scratch").rename(folder / "tokenizer")
    return folder


@pytest.fixture
def changed(generator_folder: Path, tmp_path: Path) -> Callable[[Callable[[Path], None]], Path]:
    """Copies the image generator's folder and changes something in it."""

    def change(how: Callable[[Path], None]) -> Path:
        copy = tmp_path / "changed"
        shutil.copytree(generator_folder, copy)
        how(copy)
        return copy

    return change


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection to another machine fails the test."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a network was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def _tokenizer_files(folder: Path) -> None:
    """open_clip's own vocabulary in the two files that Stable Diffusion's folders hold."""
    own = SimpleTokenizer()
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({SPECIAL.get(word, word): at for word, at in own.encoder.items()}))
    merges = [" ".join(pair) for pair in own.bpe_ranks]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "!",
        "model_max_length": 77,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def _text_encoder() -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        bos_token_id=49406,
        eos_token_id=49407,
    )
    return CLIPTextModel(config)


def _unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=4,
        norm_num_groups=4,
    )


def _vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
    )
