"""Loads an open_clip checkpoint and a diffusers folder from local files, which are checked first.

Nothing is downloaded and no pickle is opened: weights are safetensors files, a folder may only name classes of
diffusers and transformers, and errors name the folder and the part that is missing. Knows no site and no words.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import open_clip
import torch
from diffusers import StableDiffusionPipeline
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transform import PreprocessCfg
from safetensors import SafetensorError
from torch import nn

from fednet.errors import ModelError
from fednet.methods.cmtii.clip import OpenClip

T = TypeVar("T")

CLIP_CONFIG = "open_clip_config.json"
CLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors")
"""File names of a folder's weights, in open_clip's order."""
WEIGHT_FOLDERS = ("text_encoder", "unet", "vae")
PIPELINE_FILES = {
    "scheduler": ("scheduler_config.json",),
    "tokenizer": ("tokenizer.json", "vocab.json"),
    **dict.fromkeys(WEIGHT_FOLDERS, ("config.json",)),
}
"""The parts of a text-to-image folder, and the files of which each must have one."""
LIBRARIES = frozenset({"diffusers", "transformers"})


def clip_weights(clip: str, checkpoint: Path | None) -> Path:
    """The file with a CLIP's weights.

    Args:
        clip: a name that open_clip knows; or, without a checkpoint, a folder as open_clip's models are published.
        checkpoint: the weights for a name.

    Raises:
        ModelError: there is no such name, folder or file, or it is no safetensors file.
    """
    if checkpoint is None:
        return _published_weights(Path(clip).expanduser())
    if clip not in open_clip.list_models():
        near = ", ".join(get_close_matches(clip, open_clip.list_models())) or "for example ViT-B-32 or ViT-H-14"
        raise ModelError(f"clip: open_clip knows no model {clip!r}; near it: {near}")
    path = checkpoint.expanduser()
    if not path.is_file():
        raise ModelError(f"checkpoint: {path} is no file; put the safetensors weights of {clip} there")
    if path.suffix != ".safetensors":
        raise ModelError(
            f"checkpoint: {path} is no safetensors file, and no other format is opened, since it may run code: take "
            f"{CLIP_WEIGHTS[0]} of the model's published folder"
        )
    return path


def load_clip(clip: str, checkpoint: Path | None, device: str, half: torch.dtype | None) -> OpenClip:
    """A CLIP with its weights, frozen, on a device.

    Args:
        clip: see `clip_weights`.
        checkpoint: see `clip_weights`.
        device: a torch device string.
        half: in which precision its towers compute; None for float32. The weights stay float32, since LoRA's small
            products would be rounded away in half of them.

    Raises:
        ModelError: they are not there, do not fit the architecture, or it needs a tokenizer that has to be downloaded.
    """
    weights = clip_weights(clip, checkpoint)
    if checkpoint is None:
        name, config = (
            f"local-dir:{weights.parent}",
            _read_json_object(weights.parent / CLIP_CONFIG, "clip").get("model_cfg"),
        )
    else:
        name, config = clip, open_clip.get_model_config(clip)
    tokenizer = _own_tokenizer(clip, config)

    def build() -> nn.Module:
        model: nn.Module = open_clip.create_model(name, None if checkpoint is None else str(weights))
        return model.to(device).eval().requires_grad_(requires_grad=False)

    model = _wrap_load_errors(build, f"{weights} cannot be loaded as the CLIP {clip!r}")
    return OpenClip(model, tokenizer, PreprocessCfg(**open_clip.get_model_preprocess_cfg(model)), half)


def require_diffusers_folder(folder: Path) -> None:
    """Checks that a folder is a text-to-image pipeline that can be loaded.

    Raises:
        ModelError: it is none; the message names the folder and what is missing or wrong.
    """
    index = folder / "model_index.json"
    if not folder.is_dir():
        raise ModelError(f"image_generator: {folder} is no folder; put a diffusers text-to-image model there")
    if not index.is_file():
        raise ModelError(f"image_generator: {folder} holds no model_index.json: it is no diffusers pipeline")
    named = _named_parts(index)
    for part, files in PIPELINE_FILES.items():
        if part not in named or not any((folder / part / file).is_file() for file in files):
            raise ModelError(
                f"image_generator: {folder} has no {part} ({part}/{files[0]}): a text-to-image folder "
                f"holds {', '.join(PIPELINE_FILES)}"
            )
        if part in WEIGHT_FOLDERS and not any((folder / part).glob("*.safetensors")):
            raise ModelError(
                f"image_generator: {folder / part} holds no safetensors weights, and no other format is opened, "
                "since it may run code: save the pipeline once with save_pretrained(..., safe_serialization=True)"
            )


def load_pipeline(folder: Path, device: str, dtype: torch.dtype) -> StableDiffusionPipeline:
    """The pipeline of a folder, without its safety checker, on a device.

    Raises:
        ModelError: see `require_diffusers_folder`; or the parts do not match their files or one another.
    """
    require_diffusers_folder(folder)

    def build() -> StableDiffusionPipeline:
        return StableDiffusionPipeline.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        ).to(device)

    pipeline = _wrap_load_errors(build, f"image_generator: {folder} cannot be loaded")
    if not hasattr(pipeline.scheduler, "alphas_cumprod"):
        raise ModelError(
            f"image_generator: the {type(pipeline.scheduler).__name__} of {folder} has no noise levels by step"
        )
    return pipeline


def _published_weights(folder: Path) -> Path:
    if not (folder / CLIP_CONFIG).is_file():
        raise ModelError(
            f"clip: {folder} is no folder with an {CLIP_CONFIG}; give such a folder, or a name of open_clip and a "
            "checkpoint"
        )
    for name in CLIP_WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise ModelError(f"clip: {folder} holds no {CLIP_WEIGHTS[0]}; no other format is opened, since it may run code")


def _own_tokenizer(clip: str, config: Any) -> SimpleTokenizer:
    """open_clip's tokenizer, the only one that comes with the package, for a model that was trained with it."""
    text, tokenizer = config.get("text_cfg") if isinstance(config, dict) else None, SimpleTokenizer()
    if not isinstance(text, dict):
        raise ModelError(f"clip: {clip} describes no text tower: take a folder as open_clip publishes it")
    if not {"hf_model_name", "hf_tokenizer_name"}.isdisjoint(text) or text.get("vocab_size") != tokenizer.vocab_size:
        raise ModelError(
            f"clip: {clip} was trained with another tokenizer than open_clip's own, of {tokenizer.vocab_size} tokens: "
            "take a model with that one, for example ViT-B-32 or ViT-H-14"
        )
    return tokenizer


def _named_parts(index: Path) -> set[str]:
    """The parts that a pipeline's index names, all of known libraries."""
    content = _read_json_object(index, "image_generator")
    if content.get("_class_name") != "StableDiffusionPipeline":
        raise ModelError(
            f"image_generator: {index} describes a {content.get('_class_name')}, not a StableDiffusionPipeline"
        )
    parts = {name: value for name, value in content.items() if isinstance(value, list) and any(value)}
    if odd := [name for name, value in parts.items() if value[0] not in LIBRARIES and name != "safety_checker"]:
        raise ModelError(
            f"image_generator: {index} wants code of {parts[odd[0]][0]!r} for its {odd[0]}: only diffusers' own"
        )
    return set(parts)


def _read_json_object(path: Path, what: str) -> dict[str, Any]:
    """The JSON object in a file."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{what}: {path} cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise ModelError(f"{what}: {path} holds no JSON object")
    return content


def _wrap_load_errors(build: Callable[[], T], failure: str) -> T:
    """The result of `build`; its failures become one line that names the files."""
    try:
        return build()
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, AssertionError, SafetensorError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(f"{failure}: {' '.join(line.strip() for line in lines[:3])[:400]}") from error
