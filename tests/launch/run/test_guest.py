"""A guest: what is refused before any peer is asked. How a job goes is tested from end to end."""

from __future__ import annotations

import pytest
from rich.console import Console

from launch.errors import ConfigError
from launch.run.endpoint import EndpointOptions
from launch.run.guest import GuestCluster


@pytest.mark.parametrize("listen", ["tcp://0.0.0.0:0", "tcp://10.0.0.1:7000"])
def test_a_guest_binds_loopback_unless_insecure(listen: str) -> None:
    cluster = GuestCluster(EndpointOptions(listen, join=("tcp://127.0.0.1:1",)), "novelty", Console())
    with pytest.raises(ConfigError, match="--insecure"):
        cluster.run(lambda *_: None)
