"""What is computed: data, models, diffusion, metrics and the federated methods. Knows no network.

`fednet.launch`, `Run`, `connect`, `Session` and `join` are the Python API of the package `launch`, found when they are
used; importing `fednet` imports neither it nor torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from launch.python.joining import JoinedRun, join
    from launch.python.launching import RunHandle, launch
    from launch.python.run import Run
    from launch.python.session import Session, connect

__version__ = "0.1.0"

__all__ = ["JoinedRun", "Run", "RunHandle", "Session", "__version__", "connect", "join", "launch"]

_API = {
    "JoinedRun": "launch.python.joining",
    "Run": "launch.python.run",
    "RunHandle": "launch.python.launching",
    "Session": "launch.python.session",
    "connect": "launch.python.session",
    "join": "launch.python.joining",
    "launch": "launch.python.launching",
}


def __getattr__(name: str) -> Any:
    """A name of the Python API."""
    if name not in _API:
        raise AttributeError(f"module 'fednet' has no attribute {name!r}")
    return getattr(import_module(_API[name]), name)
