"""The pages of docs/how-to: each cluster.yaml that they show can be loaded."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from launch.config.schema import load_config

PAGES = sorted((Path(__file__).parent.parent / "docs" / "how-to").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_cluster_yaml_of_a_page_works(page: Path, tmp_path: Path) -> None:
    sections = page.read_text("utf-8").split("## A cluster.yaml that works\n")[1:]
    for number, section in enumerate(sections):
        block = re.search(r"\n((?:    .*\n)+)", section)
        assert block is not None
        path = tmp_path / f"{number}.yaml"
        path.write_text(textwrap.dedent(block[1]), "utf-8")
        load_config(path)
