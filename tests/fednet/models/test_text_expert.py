"""A Stable Diffusion folder answers the score of its latents, guided by prompts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from peft import LoraConfig, get_peft_model

from fednet.diffusion.sde import VP
from fednet.errors import ModelError
from fednet.models.config import DiffusersModelConfig
from fednet.models.pretrained import open_pretrained
from fednet.models.text_expert import TextFolder
from fednet.seeds import generator

SDE = VP()


def opened(folder: Path, **more: Any) -> TextFolder:
    model = open_pretrained(DiffusersModelConfig.model_validate({"kind": "diffusers", "path": folder, **more}))
    assert isinstance(model, TextFolder)
    return model


def latents() -> torch.Tensor:
    return torch.randn(2, 4, 8, 8, generator=generator(0, "x"))


def words() -> torch.Tensor:
    return torch.randn(2, 12, 16, generator=generator(0, "words"))


def test_the_score_is_that_of_the_pipelines_own_prediction(text_folder: Path) -> None:
    """At a step of the schedule, DDIM's clean latents and Tweedie's formula."""
    pipeline = StableDiffusionPipeline.from_pretrained(text_folder, local_files_only=True, use_safetensors=True)
    scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    scheduler.set_timesteps(1000)
    step, t = 400, torch.tensor(0.5)
    low, high = torch.tensor(1e-4, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64)
    wanted = 0.5 * ((1 - scheduler.alphas_cumprod[step].double()) / scheduler.alphas_cumprod[step].double()).log()
    for _ in range(80):
        t = (low + high) / 2
        low, high = (t, high) if SDE.log_ratio(t) < wanted else (low, t)
    alpha, std = map(float, SDE.marginal(t))
    expert, x, (negative, prompt) = opened(text_folder).load(SDE, "cpu", ()), latents(), words()
    y = x / (alpha**2 + std**2) ** 0.5
    with torch.no_grad():
        outputs = [
            pipeline.unet(y, step, encoder_hidden_states=one.expand(2, -1, -1)).sample for one in (negative, prompt)
        ]
        guided = outputs[0] + 7.5 * (outputs[1] - outputs[0])
        clean = scheduler.step(guided, step, y).pred_original_sample
        score = expert.score(x, t, words(), 7.5)
    torch.testing.assert_close(score, (alpha * clean - x) / std**2, rtol=2e-3, atol=2e-3)


def test_the_card_says_what_prompts_and_latents_mean(text_folder: Path) -> None:
    model = opened(text_folder)
    card = model.load(SDE, "cpu", ()).card
    assert (card.space, card.prompt_width, card.latent_scale, model.shape) == ("latents", 16, 0.18215, (4, 8, 8))
    assert (model.prompted, model.conditional, model.classes) == (True, False, ())
    assert card.reach > 1
    assert card.text_encoder != card.autoencoder != ""


def test_a_lora_adapts_the_weights_and_stands_in_the_card(text_folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    plain = opened(text_folder).load(SDE, "cpu", ())
    config = LoraConfig(r=2, lora_alpha=4, target_modules=["to_q", "to_v"], init_lora_weights=False)
    get_peft_model(plain._network, config).save_pretrained(tmp_path)
    plain = opened(text_folder).load(SDE, "cpu", ())
    expert = opened(text_folder, lora=tmp_path / "adapter_model.safetensors").load(SDE, "cpu", ())
    t = torch.tensor(0.4)
    assert not torch.allclose(expert.score(latents(), t, words()), plain.score(latents(), t, words()), atol=1e-3)
    assert expert.card.network == "UNet2DConditionModel + adapter_model.safetensors"


@pytest.mark.parametrize(("half", "precision"), [("bfloat16", "bfloat16"), ("float16", "float32"), (None, "float32")])
def test_half_precision_is_in_the_network_alone(text_folder: Path, half: str | None, precision: str) -> None:
    """A CPU knows bfloat16; the answer is float32, and a few roundings of 2^-8 away, which a guidance of 2 triples."""
    whole, expert = opened(text_folder).load(SDE, "cpu", ()), opened(text_folder, half=half).load(SDE, "cpu", ())
    assert expert.card.precision == precision
    assert expert._network.dtype == getattr(torch, precision)
    for time in (0.1, 0.5, 0.9):
        t = torch.tensor(time)
        score, exact = (one.score(latents(), t, words(), 2.0) for one in (expert, whole))
        assert score.dtype == torch.float32
        assert torch.equal(score, exact) == (precision == "float32")
        assert (score - exact).norm() / exact.norm() < 3 * 4 * 2**-8


def test_without_a_prompt_it_says_so(text_folder: Path) -> None:
    with pytest.raises(ModelError, match="draws from prompts"):
        opened(text_folder).load(SDE, "cpu", ()).score(latents(), torch.tensor(0.4))


def test_what_is_no_text_model_is_refused(text_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="takes prompts, and no labels"):
        opened(text_folder, classes=["a"])
    shutil.copytree(text_folder, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "vae")
    with pytest.raises(ModelError, match="has no vae"):
        opened(tmp_path / "copy")
    path = text_folder / "unet" / "config.json"
    (tmp_path / "copy" / "unet" / "config.json").write_text(
        json.dumps(json.loads(path.read_text()) | {"sample_size": None})
    )
    shutil.copytree(text_folder / "vae", tmp_path / "copy" / "vae")
    with pytest.raises(ModelError, match="does not say its sample_size"):
        opened(tmp_path / "copy")
