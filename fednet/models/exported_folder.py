"""Folders of models as libraries load them: configuration, weights, and last a model card; all methods export so.

Weights are safetensors files with the note that Hugging Face's libraries expect. A card begins with the front matter of
the Hugging Face hub, and its indented lines run as they stand, in the folder. Knows no network and no site.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent, indent

from safetensors.torch import save
from torch import Tensor

from fednet.files import write_whole

CARD = "README.md"


@dataclass(frozen=True)
class ModelCard:
    """What a folder says of itself.

    Attributes:
        title: one line.
        library: which one loads it, as the hub calls it.
        tags: beside `fednet`.
        text: what it is and how it was trained, in Markdown.
        code: Python that loads and uses it in its folder.
        notes: what follows the code.
    """

    title: str
    library: str
    text: str
    code: str
    tags: tuple[str, ...] = ()
    notes: str = ""

    def markdown(self) -> str:
        """The content of its file."""
        front = f"---\nlibrary_name: {self.library}\ntags: [{', '.join(('fednet', *self.tags))}]\n---"
        parts = (front, f"# {self.title}", self.text.strip(), indent(dedent(self.code).strip(), "    "), self.notes)
        return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def write_exported(folder: Path, files: Mapping[str, bytes], card: ModelCard) -> None:
    """Writes a folder; its card comes last.

    Args:
        folder: where to.
        files: contents by path below the folder.
        card: the model card.

    Raises:
        OSError: it cannot be written.
    """
    for name, content in files.items():
        write_whole(folder / name, content)
    write_whole(folder / CARD, card.markdown().encode())


def weight_bytes(state: Mapping[str, Tensor]) -> bytes:
    """A state as a safetensors file."""
    return save({name: value.detach().cpu().contiguous() for name, value in state.items()}, {"format": "pt"})


def json_bytes(values: Mapping[str, object]) -> bytes:
    """A configuration as a JSON file."""
    return (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode()
