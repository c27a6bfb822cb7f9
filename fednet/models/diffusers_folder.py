"""Opens folders of diffusers from local files, which are checked first.

Nothing is downloaded, no pickle is opened and no code of a folder is run: weights are safetensors files, a folder may
only name classes of diffusers and transformers that are expected, and errors name the folder and the part that is
missing or wrong. Knows no site and no network of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from safetensors import SafetensorError
from torch import nn

from fednet.errors import ModelError, UsageError
from fednet.files import read_bounded

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

T = TypeVar("T")

INDEX = "model_index.json"
NETWORK_CONFIG = "config.json"
SCHEDULER_CONFIG = "scheduler_config.json"
MAX_CONFIG_BYTES = 1 << 22
"""Of a JSON file."""
WEIGHT_FOLDERS = ("text_encoder", "unet", "vae")
PIPELINE_FILES = {
    "scheduler": (SCHEDULER_CONFIG,),
    "tokenizer": ("tokenizer.json", "vocab.json"),
    **dict.fromkeys(WEIGHT_FOLDERS, (NETWORK_CONFIG,)),
}
"""The parts of a text-to-image folder, and the files of which each must have one."""
HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
LIBRARIES = frozenset({"diffusers", "transformers"})
NO_OTHER_FORMAT = (
    "holds no safetensors weights, and no other format is opened, since it may run code: save it once with "
    "save_pretrained(..., safe_serialization=True)"
)


def part_folder(folder: Path, part: str) -> Path:
    """The folder of a pipeline's part: below it, or itself where network and scheduler lie side by side."""
    return folder / part if (folder / part).is_dir() else folder


def part_config(folder: Path, part: str, file: str, what: str) -> dict[str, Any]:
    """The configuration of a pipeline's part.

    Args:
        folder: of the pipeline.
        part: "unet", "scheduler", ...
        file: its name.
        what: the key of the configuration that names the folder, for messages.

    Raises:
        ModelError: there is no folder, no such part, or it is malformed.
    """
    if not folder.is_dir():
        raise ModelError(f"{what}: {folder} is no folder; put a model there that diffusers has saved")
    path = part_folder(folder, part) / file
    if not path.is_file():
        raise ModelError(f"{what}: {folder} has no {part} ({part}/{file}): expected a folder that diffusers has saved")
    return read_json_object(path, what)


def load_network(folder: Path, part: str, expected: Mapping[str, Any], what: str, dtype: torch.dtype) -> nn.Module:
    """A network of a folder, frozen, on the CPU.

    Args:
        folder: of the pipeline or the network.
        part: its name in the pipeline.
        expected: the classes of diffusers that it may be of, by name.
        what: see `part_config`.
        dtype: of its weights.

    Raises:
        ModelError: it is of another class, has no safetensors weights, or they do not fit.
    """
    name = str(part_config(folder, part, NETWORK_CONFIG, what).get("_class_name"))
    if name not in expected:
        raise ModelError(f"{what}: {folder} holds a {name[:60]}; expected {' or '.join(sorted(expected))}")
    place = part_folder(folder, part)
    if not any(place.glob("*.safetensors")):
        raise ModelError(f"{what}: {place} {NO_OTHER_FORMAT}")

    def build() -> nn.Module:
        network: nn.Module = expected[name].from_pretrained(
            place, torch_dtype=dtype, use_safetensors=True, local_files_only=True, low_cpu_mem_usage=False
        )
        return network.eval().requires_grad_(requires_grad=False)

    return wrap_load_errors(build, f"{what}: {place} cannot be loaded as a {name}")


def half_type(half: str | None, device: str) -> torch.dtype:
    """In which precision a network computes: a CPU knows bfloat16, and computes in float32 instead of float16."""
    if half is None or (half == "float16" and torch.device(device).type == "cpu"):
        return torch.float32
    return HALVES[half]


def precision_name(dtype: torch.dtype) -> str:
    """What cards call a number format, such as `float32`."""
    return str(dtype).removeprefix("torch.")


def to_device(network: nn.Module, device: str, dtype: torch.dtype) -> nn.Module:
    """A network on a device.

    Raises:
        ModelError: the device cannot be used.
    """
    try:
        return network.to(device, dtype)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"the device {device!r} cannot be used: {error}") from error


def positive_integer(config: Mapping[str, Any], key: str, what: str, folder: Path) -> int:
    """A whole number above 0 in a configuration.

    Raises:
        ModelError: it is missing, or something else.
    """
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ModelError(f"{what}: {folder} does not say its {key}")
    return value


def require_text_to_image(folder: Path, what: str) -> None:
    """Checks that a folder is a text-to-image pipeline that can be loaded.

    Raises:
        ModelError: it is none; the message names the folder and what is missing or wrong.
    """
    index = folder / INDEX
    if not folder.is_dir():
        raise ModelError(f"{what}: {folder} is no folder; put a diffusers text-to-image model there")
    if not index.is_file():
        raise ModelError(f"{what}: {folder} holds no {INDEX}: it is no diffusers pipeline")
    named = _named_parts(index, what)
    for part, files in PIPELINE_FILES.items():
        if part not in named or not any((folder / part / file).is_file() for file in files):
            raise ModelError(
                f"{what}: {folder} has no {part} ({part}/{files[0]}): a text-to-image folder "
                f"holds {', '.join(PIPELINE_FILES)}"
            )
        if part in WEIGHT_FOLDERS and not any((folder / part).glob("*.safetensors")):
            raise ModelError(f"{what}: {folder / part} {NO_OTHER_FORMAT}")


def load_text_to_image(folder: Path, what: str, device: str, dtype: torch.dtype) -> StableDiffusionPipeline:
    """The pipeline of a text-to-image folder, without its safety checker, on a device.

    Raises:
        ModelError: see `require_text_to_image`; or the parts do not match their files or one another.
    """
    require_text_to_image(folder, what)
    from diffusers import StableDiffusionPipeline  # noqa: PLC0415 - imports transformers, which no other folder needs

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

    pipeline = wrap_load_errors(build, f"{what}: {folder} cannot be loaded")
    if not hasattr(pipeline.scheduler, "alphas_cumprod"):
        raise ModelError(f"{what}: the {type(pipeline.scheduler).__name__} of {folder} has no noise levels by step")
    return pipeline


def read_json_object(path: Path, what: str) -> dict[str, Any]:
    """The JSON object in a file.

    Args:
        path: the file.
        what: see `part_config`.

    Raises:
        ModelError: it cannot be read, or holds none.
    """
    try:
        content = json.loads(read_bounded(path, MAX_CONFIG_BYTES))
    except (UsageError, ValueError, RecursionError) as error:
        raise ModelError(f"{what}: {path} cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise ModelError(f"{what}: {path} holds no JSON object")
    return content


def wrap_load_errors(build: Callable[[], T], failure: str) -> T:
    """The result of `build`; its failures become one line that names the files.

    Raises:
        ModelError: it failed.
    """
    try:
        return build()
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, AssertionError, SafetensorError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(f"{failure}: {' '.join(line.strip() for line in lines[:3])[:400]}") from error


def _named_parts(index: Path, what: str) -> set[str]:
    """The parts that a pipeline's index names, all of known libraries."""
    content: Mapping[str, Any] = read_json_object(index, what)
    if content.get("_class_name") != "StableDiffusionPipeline":
        raise ModelError(f"{what}: {index} describes a {content.get('_class_name')}, not a StableDiffusionPipeline")
    parts = {name: value for name, value in content.items() if isinstance(value, list) and any(value)}
    if odd := [name for name, value in parts.items() if value[0] not in LIBRARIES and name != "safety_checker"]:
        raise ModelError(f"{what}: {index} wants code of {parts[odd[0]][0]!r} for its {odd[0]}: only diffusers' own")
    return set(parts)
