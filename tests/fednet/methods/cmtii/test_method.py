"""The registered method: importing it is cheap, and it makes the side that holds data and the job."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from fednet.api import SiteContext
from fednet.methods.cmtii.config import CmtiiConfig, check
from fednet.methods.cmtii.method import METHOD
from fednet.methods.cmtii.site import CmtiiSite


def test_the_method_is_complete() -> None:
    assert METHOD.name == "cmtii"
    assert METHOD.config is CmtiiConfig
    assert METHOD.check is check


def test_importing_it_imports_no_torch() -> None:
    program = "import sys, fednet.methods.cmtii.method; print({'torch', 'diffusers', 'open_clip'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


def test_it_makes_a_site_with_the_configuration_of_the_run(tmp_path: Path) -> None:
    config = CmtiiConfig()
    site = METHOD.site(config, SiteContext("a1", 0, 3, 0, "cpu", tmp_path), {})
    assert isinstance(site, CmtiiSite)
    assert site.config == config
    assert site.own is None
