"""The fork server imports what it should, and nothing of that computes, opens a socket or starts a thread."""

from __future__ import annotations

import json
import subprocess
import sys

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


@pytest.mark.slow
def test_what_is_preloaded_can_be_forked():
    methods = [module for name in registry.names() for module in registry.find(name).preload]
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *PRELOAD, *methods], capture_output=True, text=True, check=True, timeout=100
    )
    assert json.loads(done.stdout) == {"threads": ["MainThread"], "cuda": False, "contexts": False}
