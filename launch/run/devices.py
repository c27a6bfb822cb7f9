"""What this machine has: cores, memory, CUDA devices, whether a port is free. Looks only; deciding is the plan's.

Torch is imported when the CUDA devices are counted, not before.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

import psutil

from nodes.transport.addresses import needs_ipv6


@dataclass(frozen=True)
class DeviceInventory:
    """What there is to compute on.

    Attributes:
        cuda: number of CUDA devices.
        cores: number of cores that this process may use.
    """

    cuda: int
    cores: int


def read_inventory() -> DeviceInventory:
    """Counts what this process may use."""
    import torch  # noqa: PLC0415 - seconds that `fednet --version` need not spend

    return DeviceInventory(torch.cuda.device_count(), cores())


def cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def available_memory() -> int:
    """Bytes of memory that new processes may take."""
    return int(psutil.virtual_memory().available)


def is_port_free(host: str, port: int) -> bool:
    """Whether a port can be bound just now; "*" is every interface."""
    family = socket.AF_INET6 if ":" in host or needs_ipv6(f"tcp://{host}:{port}") else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("" if host == "*" else host, port))
        except OSError:
            return False
    return True


def is_host_here(host: str) -> bool:
    """Whether a host's name or address is of this machine, so that something can be bound to it."""
    return is_port_free(host, 0)
