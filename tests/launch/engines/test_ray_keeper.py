"""The actor's own part, without Ray: a child on a lifeline."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray", reason="the extra `ray` is not installed")

from launch.config.schema import load_config
from launch.engines.node_file import NodeFile
from launch.engines.ray_keeper import NodeKeeper
from nodes.spec import NodeSpec


@pytest.mark.timeout(300)
def test_a_node_is_kept_until_it_is_told_to_end(
    tmp_path: Path, warm_python: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(warm_python.executable(tmp_path)))
    method = load_config("regression", ["nodes=2"]).method
    spec = NodeSpec(
        "a1", "client", "r", "tcp://127.0.0.1:0", count=2, folder=tmp_path, method="regression", config=method
    )
    keeper = NodeKeeper()
    keeper.start(NodeFile.of(spec).text())
    said = b""
    while b"listens on tcp://127.0.0.1:" not in said:
        chunk = keeper.read()
        assert chunk, said.decode()
        said += chunk
    keeper.stop()
    while keeper.read():
        pass
    assert keeper.wait() == 0
    keeper.stop()  # to nobody
