"""A text-to-image folder is a pipeline of diffusers with safetensors weights; what is missing is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fednet.errors import ModelError
from fednet.models.diffusers_folder import load_text_to_image, require_text_to_image

WHAT = "image_generator"
Change = Callable[[Callable[[Path], None]], Path]
pytestmark = pytest.mark.usefixtures("no_network")


def test_a_device_that_is_not_there_is_refused(generator_folder: Path) -> None:
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_text_to_image(generator_folder, WHAT, "cuda:97", torch.float32)


def test_a_pipeline_is_loaded_in_the_configured_precision(generator_folder: Path) -> None:
    pipeline = load_text_to_image(generator_folder, WHAT, "cpu", torch.bfloat16)
    assert {part.dtype for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder)} == {torch.bfloat16}


def test_a_pipeline_is_loaded_without_its_safety_checker(changed: Change) -> None:
    """Stable Diffusion 1 names two more parts, which need not be there."""
    named = _change_index(
        safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"],
        feature_extractor=["transformers", "CLIPImageProcessor"],
        requires_safety_checker=True,
    )
    assert load_text_to_image(changed(named), WHAT, "cpu", torch.float32).safety_checker is None


@pytest.mark.parametrize("part", ["tokenizer", "text_encoder", "unet", "vae", "scheduler"])
def test_a_pipeline_without_a_part_is_refused_by_its_name(changed: Change, part: str) -> None:
    folder = changed(lambda copy: shutil.rmtree(copy / part))
    with pytest.raises(ModelError, match=f"image_generator: {folder} has no {part}"):
        require_text_to_image(folder, WHAT)


def _change_index(**content: object) -> Callable[[Path], None]:
    def change(copy: Path) -> None:
        index = copy / "model_index.json"
        index.write_text(json.dumps(json.loads(index.read_text()) | content))

    return change


def _without_safetensors(copy: Path) -> None:
    (weights,) = (copy / "unet").glob("*.safetensors")
    weights.rename(weights.with_suffix(".bin"))


def _with_other_weights(copy: Path) -> None:
    (weights,) = (copy / "unet").glob("*.safetensors")
    save_file({"x": torch.zeros(1)}, weights)


def test_a_folder_without_a_pipeline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"image_generator: .*nothing is no folder"):
        require_text_to_image(tmp_path / "nothing", WHAT)
    with pytest.raises(ModelError, match=r"holds no model_index\.json"):
        require_text_to_image(tmp_path, WHAT)
    (tmp_path / "model_index.json").write_text("[")
    with pytest.raises(ModelError, match=r"model_index\.json cannot be read"):
        require_text_to_image(tmp_path, WHAT)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_without_safetensors, "unet holds no safetensors weights.*safe_serialization=True"),
        (_change_index(_class_name="FluxPipeline"), "describes a FluxPipeline, not a StableDiffusionPipeline"),
        (_change_index(unet=["os", "system"]), "wants code of 'os' for its unet"),
        (_change_index(tokenizer=[None, None]), "has no tokenizer"),
    ],
)
def test_a_pipeline_of_another_kind_is_refused(changed: Change, change: Callable[[Path], None], reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        require_text_to_image(changed(change), WHAT)


def test_a_pipeline_with_other_weights_is_refused(changed: Change) -> None:
    folder = changed(_with_other_weights)
    with pytest.raises(ModelError, match=f"image_generator: {folder} cannot be loaded"):
        load_text_to_image(folder, WHAT, "cpu", torch.float32)
