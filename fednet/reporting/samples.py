"""A batch of generated samples, the same type for all methods, and its file.

The file is safetensors: `images`, `labels` where there are any, what a method adds, and the classes' names as a note.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fednet.errors import DataError
from fednet.files import write_whole

SAMPLES_FILE = "samples.safetensors"
"""The name of the file in a folder of samples."""
LAST_SAMPLES = "samples/last.safetensors"
"""Below a run's folder: the samples after the last round."""


@dataclass(frozen=True)
class SampleBatch:
    """Generated samples.

    Attributes:
        images: float32 (n, c, h, w) in [-1, 1].
        labels: int64 (n,), the requested classes; None for unconditional samples.
        notes: which nodes contributed, were late or lost, and the consequences.
        classes: the classes' names, by label; empty where they have none.
    """

    images: Tensor
    labels: Tensor | None
    notes: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()


def write_samples(path: Path, samples: SampleBatch, **more: Tensor) -> None:
    """Writes samples, all or nothing; `more` are further tensors by name."""
    tensors = {"images": samples.images, **more}
    if samples.labels is not None:
        tensors["labels"] = samples.labels
    note = {"classes": json.dumps(samples.classes)}
    write_whole(path, save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, note), shared=True)


def read_samples(path: Path) -> SampleBatch:
    """Reads what `write_samples` has written.

    Raises:
        DataError: it cannot be read, or holds no images.
    """
    try:
        with safe_open(path, framework="pt") as file:
            classes = tuple(map(str, json.loads((file.metadata() or {}).get("classes", "[]"))))
            images = file.get_tensor("images")
            labels = file.get_tensor("labels") if "labels" in file.keys() else None  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError, TypeError, ValueError) as error:
        raise DataError(
            f"{path} holds no samples ({error}); expected images as a run leaves them ({SAMPLES_FILE}, {LAST_SAMPLES}, "
            "sites/*/generated-*.safetensors of cmtii) or as fednet sample does"
        ) from error
    if images.ndim != 4 or not images.is_floating_point() or (labels is not None and labels.shape != images.shape[:1]):
        raise DataError(f"{path} holds no samples: expected images (n, c, h, w) and labels (n,)")
    return SampleBatch(images.float(), labels, (), classes)
