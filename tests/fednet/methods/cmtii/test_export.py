"""What a site has tuned and learnt leaves as a folder that peft, open_clip and diffusers load; its card's lines run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import open_clip
import pytest
import torch
from diffusers import StableDiffusionPipeline
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import normalize

from fednet.api import ExchangePlan, NullProgress, Offer, SiteContext
from fednet.methods.cmtii.adapters import ADAPTER_NAME, LoraAdapter, LoraAdapterConfig
from fednet.methods.cmtii.backend import CmtiiBackend
from fednet.methods.cmtii.clip import OpenClip
from fednet.methods.cmtii.config import LoraTuningConfig
from fednet.methods.cmtii.export import export_site, named_words
from fednet.methods.cmtii.lexicon import Lexicon
from fednet.methods.cmtii.pretrained_backend import load_pretrained_backend
from fednet.methods.cmtii.pretrained_config import PretrainedBackendConfig
from fednet.methods.cmtii.tuning import with_adapter
from fednet.seeds import generator

TUNE = LoraTuningConfig(rank=2, alpha=4.0)


def moved_adapter(backend: CmtiiBackend) -> dict[str, Tensor]:
    """An adapter that is not the identity; the encoder is afterwards what it was."""
    assert isinstance(backend.clip, OpenClip)
    adapter = LoraAdapter(backend.clip.image_encoder, LoraAdapterConfig(rank=TUNE.rank, alpha=TUNE.alpha), seed=0)
    random = generator(0, ADAPTER_NAME)
    state = {name: 0.2 * torch.randn(value.shape, generator=random) for name, value in adapter.state().items()}
    adapter.detach()
    return state


def lines_of(card: Path) -> str:
    return dedent("\n".join(line for line in card.read_text().splitlines() if line.startswith("    ") or not line))


@pytest.fixture
def real(
    clip_folder: Path, generator_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: None
) -> CmtiiBackend:
    """Real models, whose folders lie in the folder that is exported."""
    monkeypatch.chdir(tmp_path)
    for name, folder in (("clip", clip_folder), ("sd", generator_folder)):
        (tmp_path / name).symlink_to(folder)
    config = PretrainedBackendConfig(clip=str(tmp_path / "clip"), image_generator=tmp_path / "sd", steps=1, guidance=2)
    return load_pretrained_backend(config, SiteContext("a", 0, 1, 0, "cpu", tmp_path))


def test_peft_and_diffusers_load_what_was_made_with_real_models(real: CmtiiBackend, tmp_path: Path) -> None:
    lexicon = Lexicon(real.clip, ("cat", "pickup truck"), {}, "refuse")
    word = torch.randn(2, 16, generator=generator(0, "word"))
    lexicon.add_own(Offer("a", "pickup truck", 1, word))
    adapter, texts = moved_adapter(real), real.clip.text_features([real.clip.tokens("cat"), word]).detach()
    export_site(tmp_path, real, lexicon, texts=texts, adapter=adapter, config=TUNE)
    pictures = torch.rand(3, 3, 16, 16, generator=generator(0, "pictures")) * 2 - 1

    clip, _, _ = open_clip.create_model_and_transforms("local-dir:clip")
    clip.visual = PeftModel.from_pretrained(clip.visual, "adapter").merge_and_unload().eval()
    mean, deviation = (torch.tensor(clip.visual.preprocess_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad(), with_adapter(real.clip, TUNE, adapter):
        expected = real.clip.image_features(pictures)
        found = normalize(clip.encode_image(((pictures + 1) / 2 - mean) / deviation), dim=-1)
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, real.clip.image_features(pictures), atol=1e-3), "the adapter moves them"

    pipeline = StableDiffusionPipeline.from_pretrained("sd", safety_checker=None)
    pipeline.load_textual_inversion("words/1-pickup-truck.safetensors")
    ids = pipeline.tokenizer(pipeline.maybe_convert_prompt("<1-pickup-truck>", pipeline.tokenizer)).input_ids[1:-1]
    assert torch.equal(pipeline.text_encoder.get_input_embeddings().weight[ids], word)


def test_the_lines_of_a_card_run_with_real_models(real: CmtiiBackend, tmp_path: Path) -> None:
    lexicon = Lexicon(real.clip, ("cat", "dog"), {}, "refuse")
    lexicon.add_received(Offer("b", "dog", 1, torch.randn(1, 16)))
    texts = real.clip.text_features([torch.ones(1, 16)] * 2).detach()
    export_site(tmp_path, real, lexicon, texts=texts, adapter=moved_adapter(real), config=TUNE)
    card = (tmp_path / "README.md").read_text()
    assert "NOT PRIVATE" in card
    assert str(tmp_path) not in card, "no path of a site's machine"
    values: dict[str, Any] = {}
    exec(lines_of(tmp_path / "README.md"), values)  # noqa: S102 - our own text
    assert values["label"].shape == (1,)
    assert len(values["pictures"]) == 1


def test_a_run_with_embedded_models_leaves_all_that_its_lines_load(
    federation: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = federation()
    site = made.sites["a1"]
    site.offer(ExchangePlan("learn", "learn", {"round": 1}), NullProgress())
    site.absorb(Offer("a2", "9", 1, torch.ones(1, 16)))
    site.offer(ExchangePlan("tune", "tune", {"round": 1, "arm": "exchange"}), NullProgress())
    folder = made.folder / "models" / "a1"
    monkeypatch.chdir(folder)
    values: dict[str, Any] = {}
    exec(lines_of(folder / "README.md"), values)  # noqa: S102 - our own text
    assert values["pictures"].shape == (16, 1, 8, 8)
    pictures, clip = torch.rand(4, 1, 8, 8, generator=generator(0, "pictures")) * 2 - 1, site.loaded.backend.clip
    with torch.no_grad(), with_adapter(clip, site.config.tune, site.loaded.store.adapter("exchange")):
        expected = clip.image_features(pictures)
        found = normalize(values["clip"].encode_image(pictures.expand(-1, 3, -1, -1)), dim=-1)
    torch.testing.assert_close(found, expected)
    assert torch.equal(load_file("words/9-9-received-1.safetensors")["<9-9-received-1>"], torch.ones(1, 16))
    assert json.loads((folder / "adapter" / "adapter_config.json").read_text())["r"] == 2


def test_words_have_names_that_are_files() -> None:
    word = torch.ones(1, 2)
    names = named_words(("a/b", "ä", "x y"), {0: word, 1: word}, {0: [word, word], 2: [word]})
    assert list(names) == ["0-a-b", "1", "0-a-b-received-1", "0-a-b-received-2", "2-x-y-received-1"]
