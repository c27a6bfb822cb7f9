"""What the machine has."""

from __future__ import annotations

import os
import socket

import torch

from launch.run.devices import cores, is_host_here, is_port_free, read_inventory


def test_the_inventory_counts_what_this_process_may_use() -> None:
    there = read_inventory()
    assert there.cuda == torch.cuda.device_count()
    assert 1 <= there.cores <= (os.cpu_count() or 1)
    assert there.cores == cores()


def test_a_bound_port_is_not_free() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not is_port_free("127.0.0.1", port)
        assert not is_port_free("*", port)
    assert is_port_free("127.0.0.1", port)


def test_a_host_that_is_not_ours_cannot_be_bound() -> None:
    assert not is_port_free("203.0.113.7", 5000)


def test_hosts_of_this_machine_can_be_bound() -> None:
    assert all(map(is_host_here, ("127.0.0.1", "localhost", "*")))
    assert not is_host_here("203.0.113.7")
