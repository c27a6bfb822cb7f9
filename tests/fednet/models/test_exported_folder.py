"""A folder is complete once its card is there, and the card has the front matter of the hub and lines that run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open

from fednet.models import exported_folder
from fednet.models.exported_folder import ModelCard, json_bytes, weight_bytes, write_exported

CARD = ModelCard(title="It", library="pytorch", tags=("gan",), text="What it is.\n", code="\nimport json\n\nx = 1\n")


def test_a_card_has_front_matter_and_lines_that_run() -> None:
    text = CARD.markdown()
    _, front, rest = text.split("---\n")
    assert yaml.safe_load(front) == {"library_name": "pytorch", "tags": ["fednet", "gan"]}
    assert rest == "\n# It\n\nWhat it is.\n\n    import json\n\n    x = 1\n"


def test_the_card_is_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = list[str]()
    monkeypatch.setattr(exported_folder, "write_whole", lambda path, _content: written.append(path.name))
    write_exported(tmp_path, {"a/config.json": b"", "b": b""}, CARD)
    assert written == ["config.json", "b", "README.md"]


def test_weights_say_that_they_are_torch_s_and_configurations_are_json(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(weight_bytes({"w": torch.ones(2, 3).T}))
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"format": "pt"}
        assert file.get_tensor("w").shape == (3, 2)
    assert json.loads(json_bytes({"classes": ("ä", "b")})) == {"classes": ["ä", "b"]}
