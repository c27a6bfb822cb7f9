"""Pictures of a prompt: encoded and decoded by the asker, scored by sites with one base and LoRAs of their own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from fednet.api import NullProgress, Question, SiteContext
from fednet.errors import MethodError, ModelError
from fednet.federated.local_network import local_network
from fednet.images import require_pictures
from fednet.methods.score_inference.config import PromptConfig, ScoreInferenceConfig
from fednet.methods.score_inference.job import run_job
from fednet.methods.score_inference.messages import read_score_capabilities
from fednet.methods.score_inference.prompts import encoded_prompt
from fednet.methods.score_inference.sample_request import ScoreSampleRequest
from fednet.methods.score_inference.sampling import sample
from fednet.methods.score_inference.site import ScoreInferenceSite


def config(folder: Path) -> ScoreInferenceConfig:
    return ScoreInferenceConfig.model_validate(
        {
            "sampler": {"kind": "euler-maruyama", "steps": 2},
            "samples": {"total": 2, "prompt": {"text": "a cat", "negative": "dog", "models": str(folder)}},
            "arms": {"mixture": {"rule": "mixture", "guidance": 7.5}},
            "measure": None,
        }
    )


def site(folder: Path, name: str, run: ScoreInferenceConfig, at: Path, **model: Any) -> ScoreInferenceSite:
    overrides = {"model": {"kind": "diffusers", "path": str(folder), **model}}
    return ScoreInferenceSite.from_overrides(run, SiteContext(name, 0, 1, 0, "cpu", at), overrides)


def adapted(folder: Path, at: Path) -> Path:
    """A LoRA of the folder's UNet, in peft's format."""
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    network = UNet2DConditionModel.from_pretrained(folder / "unet")
    wanted = LoraConfig(r=2, lora_alpha=4, target_modules=["to_q", "to_v"], init_lora_weights=False)
    get_peft_model(network, wanted).save_pretrained(at)
    return at / "adapter_model.safetensors"


def test_sites_with_a_base_and_a_lora_draw_a_prompt(text_folder: Path, tmp_path: Path) -> None:
    run = config(text_folder)
    lora = adapted(text_folder, tmp_path / "lora")
    sites = {"a": site(text_folder, "a", run, tmp_path), "b": site(text_folder, "b", run, tmp_path, lora=str(lora))}
    network = local_network(sites, {name: one.prepare(NullProgress()) for name, one in sites.items()})
    summary = run_job(run, network, tmp_path, 0, NullProgress())
    assert all(node.contributed == 3 for node in summary.accounts["mixture"].nodes.values())
    images = load_file(tmp_path / "samples" / "mixture" / "samples.safetensors")["images"]
    assert images.shape == (2, 3, 16, 16)
    require_pictures(images, "images")
    wanted = PromptConfig(text="dog", models=text_folder)
    request = ScoreSampleRequest(count=1, guidance=3.0, sampler="dpm-solver++")
    drawn = sample(network, request, NullProgress(), prompt=wanted)
    assert drawn.images.shape == (1, 3, 16, 16)
    with pytest.raises(MethodError, match="draw from prompts: give one"):
        sample(network, ScoreSampleRequest(count=1), NullProgress())


def test_sites_in_half_and_in_whole_precision_draw_together(text_folder: Path, tmp_path: Path) -> None:
    """The card and the report say which is which; whoever asks gets float32, near what two whole ones draw."""
    run, drawn = config(text_folder), []
    for half in (None, "bfloat16"):
        sites = {"a": site(text_folder, "a", run, tmp_path), "b": site(text_folder, "b", run, tmp_path, half=half)}
        network = local_network(sites, {name: one.prepare(NullProgress()) for name, one in sites.items()})
        summary = run_job(run, network, tmp_path / str(half), 0, NullProgress())
        drawn.append(load_file(tmp_path / str(half) / "samples" / "mixture" / "samples.safetensors")["images"])
    (models,) = [section.table for section in summary.sections if section.title == "Models"]
    assert models is not None
    assert [row[models.columns.index("precision")] for row in models.rows] == ["float32", "bfloat16"]
    whole, half_drawn = drawn
    assert half_drawn.dtype == torch.float32
    assert 0 < (half_drawn - whole).abs().max() < 0.1


def test_a_site_refuses_what_is_no_prompt(text_folder: Path, tmp_path: Path) -> None:
    made = site(text_folder, "a", config(text_folder), tmp_path)
    made.prepare(NullProgress())
    x = torch.zeros(1, 4, 8, 8)
    for prompt in (
        None,
        torch.zeros(2, 12, 8),
        torch.zeros(1, 12, 16),
        torch.zeros(2, 2000, 16),
        torch.full((2, 1, 16), torch.nan),
    ):
        inputs = {"x": x} | ({} if prompt is None else {"prompt": prompt})
        with pytest.raises(MethodError, match="prompt"):
            made.answer(Question("score", inputs, {"t": 0.5}))


def test_other_models_of_the_asker_or_of_a_site_are_refused_by_name(text_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(text_folder, other)
    (weights,) = (other / "vae").glob("*.safetensors")
    save_file({name: value + 1 for name, value in load_file(weights).items()}, weights, {"format": "pt"})
    run = config(text_folder)
    cards = {
        name: site(folder, name, run, tmp_path).prepare(NullProgress())
        for name, folder in (("a", text_folder), ("b", other))
    }
    with pytest.raises(MethodError, match="b and a differ in autoencoder"):
        read_score_capabilities(cards)
    only = read_score_capabilities({"a": cards["a"]})
    with pytest.raises(ModelError, match=r"the autoencoder of .*other .* is not that of a"):
        encoded_prompt(PromptConfig(text="a cat", models=other), only, "--models")
    unprompted = {
        "a": only["a"].model_copy(update={"expert": only["a"].expert.model_copy(update={"prompt_width": None})})
    }
    with pytest.raises(MethodError, match="take no prompt"):
        encoded_prompt(PromptConfig(text="a cat", models=text_folder), unprompted, "--models")
    assert encoded_prompt(None, unprompted, "--models") is None


def test_a_prompt_is_needed_before_anything_is_asked(text_folder: Path, tmp_path: Path) -> None:
    run = config(text_folder).model_copy(update={"samples": ScoreInferenceConfig().samples})
    with pytest.raises(ModelError, match=r"set samples\.prompt"):
        site(text_folder, "a", run, tmp_path).prepare(NullProgress())
