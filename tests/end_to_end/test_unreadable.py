"""What the process may not read ends every command in one sentence with the path, whoever runs it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
COMMANDS = """
import contextlib, io, json, sys
from launch.cli import main

for arguments in json.loads(sys.argv[1]):
    sys.argv = ["fednet", *arguments]
    error = io.StringIO()
    with contextlib.redirect_stderr(error):
        code = main()
    print(json.dumps([code, error.getvalue()]))
"""
"""Runs one command after the other in one process, which is what they cost; prints each one's exit code and errors."""
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


def test_one_sentence_names_the_path(closed: Path) -> None:
    expected = {
        ("check", f"{closed}/c.yaml"): r"{}/c\.yaml: .*Permission denied.*",
        ("fid", f"{closed}/cat", f"{closed}/dog"): r"{}/cat: .*Permission denied.*",
        (
            "check",
            "score-inference",
            "--set",
            f"data={{name: folder, root: {closed}}}",
        ): r".*data: .*{} cannot be read: .*",
    }
    command = (*AS_ANYBODY, sys.executable, "-c", COMMANDS, json.dumps(list(expected)))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
    closed.chmod(0o700)
    assert done.returncode == 0, done.stderr
    for line, said in zip(done.stdout.splitlines(), expected.values(), strict=True):
        code, error = json.loads(line)
        assert code == 2, error
        assert re.fullmatch(f"fednet: {said.format(re.escape(str(closed)))}", error.strip())
