"""What sites with pictures agree on is known from lists of files, without what trains."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from fednet.api import SiteContext
from fednet.data.config import DataConfig
from fednet.data.datasets import ImageSet, class_counts, training_labels
from fednet.errors import DataError
from fednet.methods.common.announcer import ImageAnnouncer
from fednet.methods.common.config import ImageConfig

HEAVY = ("diffusers", "matplotlib", "open_clip", "opacus", "peft", "scipy", "sklearn", "torch", "torchvision", "zmq")
AGREE = """
import json, sys
from pathlib import Path
from fednet.api import SiteContext
from fednet.methods import registry

parts = {}
for name, settings in json.loads(sys.argv[1]).items():
    method = registry.find(name)
    config = method.config.model_validate(settings)
    sites = {
        site: method.announcer(config, SiteContext(site, index, 2, 0, "cpu", Path()), {"data": {"root": site}})
        for index, site in enumerate("ab")
    }
    said = {site: announcer.announce() for site, announcer in sites.items()}
    for announcer in sites.values():
        announcer.agree(said)
    method.agree(config, said)
    parts[name] = sites["a"].parts(), sites["b"].classes
print(json.dumps([parts, sorted(sys.modules)]))
"""
"""Sites a and b of each method agree; prints how a's pictures are divided, and all modules that were imported."""
DATA: dict[str, Any] = {"name": "folder", "root": "public", "size": 8}
SHARES = [["ant"], ["bee"]]
SETTINGS: dict[str, dict[str, Any]] = {
    "cmtii": {"partition": {"train_ratio": 0.75}},
    "fedbagan": {},
    "novelty": {
        "flow": {"first": ["ant"], "unseen": ["bee"], "shares": [["ant"], ["bee"]], "belongs": [["ant"], ["bee"]]}
    },
    "private-gan": {"disclose": {"audit": {"held_out": 0.25}}},
    "score-inference": {"model": {"conditional": True}},
}


def paint(root: Path, name: str, count: int) -> None:
    (root / name).mkdir(parents=True)
    for index in range(count):
        Image.new("L", (8, 8), index).save(root / name / f"{index}.png")


def test_sites_with_own_folders_agree_without_what_trains(tmp_path: Path) -> None:
    """With torch, Opacus, peft and diffusers a refusal of folders took 7 to 18 seconds."""
    for name in ("a/ant", "b/bee", "public/ant", "public/bee"):
        paint(tmp_path, name, 8)
    settings = json.dumps({name: {"data": DATA, **own} for name, own in SETTINGS.items()})
    done = subprocess.run(
        [sys.executable, "-c", AGREE, settings], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    parts, modules = json.loads(done.stdout)
    assert not set(HEAVY) & set(modules)
    classes = ["ant", "bee"]
    assert parts == {
        "cmtii": [{"train": 6, "test": 2}, classes],
        "fedbagan": [{"train": 8}, classes],
        "novelty": [{"train": 6, "held out": 2}, classes],
        "private-gan": [{"train": 6, "audit": 2}, classes],
        "score-inference": [{"train": 8}, classes],
    }


class Least(ImageAnnouncer[ImageConfig]):
    """A method that looks at the smallest class."""

    def divided(self, counts: Collection[int]) -> dict[str, int]:
        return {"train": sum(counts), "least": min(counts)}


@pytest.mark.parametrize("limit", [None, 5])
def test_counts_by_class_are_those_of_what_is_read(tmp_path: Path, limit: int | None) -> None:
    paint(tmp_path, "ant", 6)
    paint(tmp_path, "bee", 3)
    own = DataConfig(name="folder", root=tmp_path, limit=limit)
    announcer = Least(ImageConfig(), SiteContext("a", 0, 1, 0, "cpu", tmp_path), own)
    counts = class_counts(training_labels(own))
    assert announcer.parts() == {"train": sum(counts), "least": min(counts)}


def test_the_list_of_files_is_read_once(tmp_path: Path) -> None:
    paint(tmp_path, "ant", 1)
    own = DataConfig(name="folder", root=tmp_path)
    announcer = ImageAnnouncer(ImageConfig(), SiteContext("a", 0, 1, 0, "cpu", tmp_path), own)
    announced = announcer.announce()
    (tmp_path / "ant" / "0.png").unlink()
    assert announcer.announce() == announced
    assert announcer.parts() == {"train": 1}


def test_pictures_in_memory_have_an_outline_too(tmp_path: Path) -> None:
    pictures = ImageSet(torch.zeros(3, 1, 8, 8), torch.tensor([-1, -1, -1]), ("ant",))
    announcer = ImageAnnouncer(ImageConfig(), SiteContext("a", 0, 1, 0, "cpu", tmp_path), pictures)
    assert json.loads(announcer.announce()) == {"classes": [], "shape": [1, 8, 8], "own": True}
    with pytest.raises(DataError):
        ImageAnnouncer.from_overrides(ImageConfig(), announcer.context, {"data": {"name": "nope"}})
