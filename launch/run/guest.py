"""One job in a live cluster: a guest joins through any peer, does the job over the network, and leaves."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console

from launch.errors import ConfigProblem
from launch.report.screen import format_values
from launch.run.endpoint import EndpointOptions
from launch.run.plan import check_listen
from nodes.spec import NodeSpec, Timing
from protocol.quorum import QuorumPolicy

if TYPE_CHECKING:
    from fednet.api import Progress
    from nodes.driver import BlockingNetwork

T = TypeVar("T")

TIMING = Timing(ready=20.0)
"""A guest does not wait for a cluster that is still getting ready."""

POLICY = QuorumPolicy(hard_limit=1800.0)
"""A guest may ask a site to train, which takes long."""


class GuestCluster:
    """A live cluster as a method's command sees it, see `fednet.methods.contract.Cluster`.

    Args:
        endpoint: this guest's addresses and keys.
        method: the method that the cluster must run; empty for any.
        console: the terminal.
    """

    def __init__(self, endpoint: EndpointOptions, method: str, console: Console) -> None:
        self.console = console
        self._endpoint, self._method = endpoint, method

    def run(self, job: Callable[[BlockingNetwork, Progress], T]) -> T:
        """Does one job, see `run_as_guest`."""
        return run_as_guest(self._endpoint, self._method, job, self.console)


def guest_spec(endpoint: EndpointOptions, method: str) -> NodeSpec:
    """A guest in a live cluster.

    Args:
        endpoint: its addresses and keys.
        method: the method that the cluster must run; empty for any.

    Raises:
        ConfigError: the address is not loopback and there are no keys.
    """
    keys = endpoint.keyring()
    check_listen(endpoint.listen, endpoint.insecure or keys is not None, ConfigProblem("--listen"))
    return NodeSpec(
        keys.own.name if keys else f"guest-{secrets.token_hex(4)}",
        "guest",
        "",
        endpoint.listen,
        join=endpoint.join,
        method=method,
        policy=POLICY,
        timing=TIMING,
        keys=keys,
        insecure=endpoint.insecure,
        incarnation_file=endpoint.incarnation_file,
    )


def run_as_guest(
    endpoint: EndpointOptions, method: str, job: Callable[[BlockingNetwork, Progress], T], console: Console
) -> T:
    """Does one job in a live cluster, and returns its result.

    Args:
        endpoint: this guest's addresses and keys.
        method: the method that the cluster must run; empty for any.
        job: the work, called on a thread of its own.
        console: shows the progress.

    Raises:
        ConfigError: the address is not loopback and there are no keys.
        NodeError: no client answers, or the cluster runs another method.
        MethodError: the cluster cannot do the job.
        StopSignal: it was interrupted.
    """
    spec = guest_spec(endpoint, method)
    from nodes.run import run_visit  # noqa: PLC0415 - imports torch, which other commands need not wait for

    with console.status(f"looking for the cluster at {', '.join(endpoint.join)}") as status:

        def show(phase: str, done: int, total: int, values: Mapping[str, float]) -> None:
            status.update(" ".join(filter(None, (phase, f"{done}/{total}" if total else "", format_values(values)))))

        return run_visit(spec, job, show)
