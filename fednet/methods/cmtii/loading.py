"""Loads an open_clip checkpoint from local files, which are checked first.

Nothing is downloaded and no pickle is opened: weights are safetensors files, and errors name the folder and the part
that is missing; `fednet.models.diffusers_folder` does the same for image generators. Knows no site and no words.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transform import PreprocessCfg
from torch import nn

from fednet.errors import ModelError
from fednet.methods.cmtii.clip import OpenClip
from fednet.models.diffusers_folder import read_json_object, wrap_load_errors

CLIP_CONFIG = "open_clip_config.json"
CLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors")
"""File names of a folder's weights, in open_clip's order."""


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
            read_json_object(weights.parent / CLIP_CONFIG, "clip").get("model_cfg"),
        )
    else:
        name, config = clip, open_clip.get_model_config(clip)
    tokenizer = _own_tokenizer(clip, config)

    def build() -> nn.Module:
        model: nn.Module = open_clip.create_model(name, None if checkpoint is None else str(weights))
        return model.to(device).eval().requires_grad_(requires_grad=False)

    model = wrap_load_errors(build, f"{weights} cannot be loaded as the CLIP {clip!r}")
    return OpenClip(model, tokenizer, PreprocessCfg(**open_clip.get_model_preprocess_cfg(model)), half)


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
