"""What the process may not read ends every command in one sentence with the path, whoever runs it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-c", "import sys; from launch.cli import main; sys.exit(main())")
IS_ROOT = os.geteuid() == 0
AS_ANYBODY = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if IS_ROOT else ()
"""Root reads everything, unless it goes without these capabilities."""

pytestmark = pytest.mark.skipif(IS_ROOT and shutil.which("setpriv") is None, reason="root needs setpriv to be denied")


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A folder that nobody may read, with a configuration and images in it."""
    for name in ("cat", "dog"):
        (tmp_path / "closed" / name).mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / "closed" / name / "0.png")
    (tmp_path / "closed" / "c.yaml").write_text("method: regression\n")
    (tmp_path / "closed").chmod(0)
    return tmp_path / "closed"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("check", "{}/c.yaml"), r"{}/c\.yaml: .*Permission denied.*"),
        (("fid", "{}/cat", "{}/dog"), r"{}/cat: .*Permission denied.*"),
        (("check", "score-inference", "--set", "data={{name: folder, root: {}}}"), r".*data: .*{} cannot be read: .*"),
    ],
)
def test_one_sentence_names_the_path(closed: Path, arguments: tuple[str, ...], said: str) -> None:
    command = (*AS_ANYBODY, *COMMAND, *(argument.format(closed) for argument in arguments))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
    closed.chmod(0o700)
    assert done.returncode == 2, done.stderr
    assert re.fullmatch(f"fednet: {said.format(re.escape(str(closed)))}", done.stderr.strip())
