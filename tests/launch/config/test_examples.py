"""The built-in examples are complete and say what they show."""

from __future__ import annotations

import re
from typing import Any

import pytest

from launch.config import examples
from launch.config.schema import load_config
from launch.errors import ConfigError

NAMES = [
    "cmtii",
    "control",
    "fedbagan",
    "heterogeneous",
    "homogeneous",
    "novelty",
    "private-gan",
    "regression",
    "score-inference",
    "score-inference-labels",
]


def test_the_examples_are_these() -> None:
    assert list(examples.example_texts()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_a_valid_configuration_of_its_name(name: Any) -> None:
    assert load_config(name).cluster.name == name


@pytest.mark.parametrize("name", NAMES)
def test_an_example_says_what_it_shows(name: Any) -> None:
    about = examples.example_summaries()[name]
    assert 20 < len(about) < 240
    assert about.endswith((".", "?"))
    assert not re.search(r"[.?!]\s", about)
    assert not about.startswith("#")


def test_an_unknown_example_names_the_closest() -> None:
    with pytest.raises(ConfigError, match=r"Did you mean homogeneous\?"):
        examples.example_text("homogenous")
