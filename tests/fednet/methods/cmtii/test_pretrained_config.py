"""The configuration of the real models: the source's defaults, read without importing what loads them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from fednet.methods.cmtii.pretrained_config import PretrainedBackendConfig


def test_the_defaults_are_the_sources() -> None:
    config = PretrainedBackendConfig(image_generator=Path("bk-sdm"))
    assert (config.clip, config.steps, config.guidance, config.gamma) == ("ViT-H-14", 50, 7.5, 5.0)
    assert PretrainedBackendConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"steps": 0}, "steps"),
        ({"guidance": 0.5}, "guidance"),
        ({"half": "int8"}, "half"),
        ({"download": True}, "download"),
        ({"batch": 0}, "batch"),
        ({"gamma": float("inf")}, "gamma"),
        ({"kind": "embedded"}, "kind"),
    ],
)
def test_invalid_settings_are_refused_by_key(change: dict[str, Any], key: str) -> None:
    with pytest.raises(ValidationError, match=key):
        PretrainedBackendConfig(image_generator=Path("somewhere"), **change)


def test_an_image_generator_is_required() -> None:
    with pytest.raises(ValidationError, match="image_generator"):
        PretrainedBackendConfig.model_validate({})


def test_importing_it_imports_no_model() -> None:
    program = (
        "import sys, fednet.methods.cmtii.pretrained_config; "
        "print({'torch', 'diffusers', 'open_clip', 'transformers'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
