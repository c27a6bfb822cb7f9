"""The fork server imports what it should, and nothing of that computes, opens a socket or starts a thread."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fednet.methods import registry
from launch.run.fork_server import PRELOAD

PROBE = """
import json, sys, threading
from importlib import import_module
for name in sys.argv[1:]:
    import_module(name)
import torch, zmq
print(json.dumps({
    "threads": [thread.name for thread in threading.enumerate()],
    "cuda": torch.cuda.is_initialized(),
    "contexts": zmq.Context._instance is not None,
}))
"""


SCRIPT = """
from pathlib import Path
from launch.run.fork_server import node_process, start_fork_server, stop_fork_server
from launch.engines.node_file import NodeFile
from nodes.spec import NodeSpec
print("imported")
NodeFile.of(NodeSpec("a1", "client", "r", "ipc://a1")).write(Path("a1.json"))
for modules in PRELOADED:
    start_fork_server(modules)
    process = node_process("os:fspath", Path("a1.json"), Path("a1.log"))
    process.start()
    process.join()
    stop_fork_server()
"""


def test_the_main_module_is_not_imported_by_the_nodes(tmp_path: Path) -> None:
    done = run_script(tmp_path, "((),)")
    assert (done.stdout, done.stderr) == ("imported\n", "")
    assert "TypeError: expected str" in (tmp_path / "a1.log").read_text()  # so far the node came


def test_a_launch_right_after_another_has_a_server_of_its_own(tmp_path: Path) -> None:
    """That of the first takes a while to die, with all that it has imported, and was taken for one that runs."""
    assert run_script(tmp_path, '3 * (("torch",),)').stderr == ""


def run_script(folder: Path, preloaded: str) -> subprocess.CompletedProcess[str]:
    (folder / "script.py").write_text(SCRIPT.replace("PRELOADED", preloaded))
    command = [sys.executable, "script.py"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=100)


@pytest.mark.slow
def test_what_is_preloaded_can_be_forked() -> None:
    methods = [module for name in registry.names() for module in registry.find(name).preload]
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *PRELOAD, *methods], capture_output=True, text=True, check=True, timeout=100
    )
    assert json.loads(done.stdout) == {"threads": ["MainThread"], "cuda": False, "contexts": False}
