"""One node in this very process, started by hand from a shell, so that addresses alone make a cluster.

Plans a single node and shows its output; what the node does is in `nodes.run`.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Literal

from rich.console import Console

from launch.config.schema import DRIVER, MONITOR, LoadedConfig
from launch.errors import ConfigError, ConfigProblem
from launch.report import html
from launch.report.screen import live_display
from launch.report.status import StatusBoard
from launch.run.devices import read_inventory
from launch.run.endpoint import EndpointOptions
from launch.run.folder import guest_folder, joined_folder, replaces
from launch.run.keys import require_agreement
from launch.run.local_data import data_digest
from launch.run.plan import check_listen, single_node_spec
from launch.run.session import print_results
from nodes.signals import told
from nodes.spec import NodeSpec
from protocol.topics import RELAY_PORTS


def run_node(
    loaded: LoadedConfig,
    role: Literal["client", "guest"],
    name: str | None,
    endpoint: EndpointOptions,
    *,
    out: Path,
    console: Console,
) -> None:
    """Runs a client until it is stopped, or the driver until its job is done, and prints the results.

    Raises:
        ConfigError: the node does not fit the configuration or this machine.
        NodeError: it cannot listen, or its peers do not come.
        MethodError: what it should compute cannot be computed.
        StopSignal: a guest was interrupted.
    """
    if role == "client" and name is None:
        known = ", ".join(loaded.cluster.entries)
        raise ConfigError(ConfigProblem("--name", f"a client of the configuration ({known})", "nothing"))
    name = name or DRIVER
    spec = spec_by_hand(loaded, role, name, endpoint, out)
    from nodes.run import run  # noqa: PLC0415 - imports torch, which other commands need not wait for

    if role == "client":
        joined_folder(spec.folder, loaded.dump())
        run(spec)
        return
    folder, differ = guest_folder(spec.folder, loaded.dump(), data_digest(loaded, (DRIVER,)))
    if differ:
        console.print(replaces(loaded.cluster.name, differ), markup=False, highlight=False, soft_wrap=True)
    run(spec)
    html.write_report(folder)
    print_results(folder, console)


def spec_by_hand(
    loaded: LoadedConfig, role: Literal["client", "guest"], name: str, endpoint: EndpointOptions, out: Path
) -> NodeSpec:
    """One node of a configuration, at the endpoint that is given.

    Raises:
        ConfigError: the node does not fit the configuration or this machine, or its keys cannot be used.
    """
    keys = endpoint.keyring(name, loaded.cluster.security.keys)
    if keys is not None:
        require_agreement(keys, loaded.cluster.fingerprints)
    return single_node_spec(
        loaded,
        name,
        role,
        read_inventory(),
        out / loaded.cluster.slug,
        listen=endpoint.listen,
        join=endpoint.join or ((endpoint.through,) if endpoint.through else ()),
        advertise=endpoint.advertise,
        device=endpoint.device,
        keys=keys,
        insecure=endpoint.insecure,
        through=endpoint.through,
    )


def run_monitor(name: str | None, endpoint: EndpointOptions, console: Console) -> None:
    """Shows what happens in a run, until Ctrl-C.

    Raises:
        ConfigError: there is no peer to join through, or the address is not loopback.
        NodeError: it cannot listen.
    """
    if not endpoint.join:
        raise ConfigError(ConfigProblem("--join", "the address of a peer", "nothing"))
    keys = endpoint.keyring(name or "")
    check_listen(endpoint.through or endpoint.listen, endpoint.insecure or keys is not None, ConfigProblem("--listen"))
    spec = NodeSpec(
        name=name or (keys.own.name if keys else MONITOR),
        role="monitor",
        run="",
        listen=endpoint.listen,
        advertise=endpoint.advertise,
        join=endpoint.join,
        keys=keys,
        insecure=endpoint.insecure,
        through=endpoint.through,
        incarnation_file=endpoint.incarnation_file,
    )
    asyncio.run(_progress(spec, console))


def run_relay(endpoint: EndpointOptions, console: Console) -> None:
    """Holds a relay for nodes that can only connect outwards, until Ctrl-C.

    Raises:
        ConfigError: its keys are none of a relay, or the address is not loopback without keys, or its port 0.
        NodeError: it cannot listen.
    """
    from nodes.transport.relay import Relay  # noqa: PLC0415 - imports ZeroMQ, which other commands need not wait for

    keys = endpoint.keyring()
    if keys is not None and not keys.own.relay:
        hint = "`fednet keys new NAME --role relay` makes them: a relay takes no part, and its keys must say so."
        raise ConfigError(ConfigProblem(f"--key {endpoint.key}", "the keys of a relay", hint=hint))
    check_listen(endpoint.listen, endpoint.insecure or keys is not None, ConfigProblem("--listen"), RELAY_PORTS)
    if endpoint.listen.endswith(":0"):
        raise ConfigError(ConfigProblem("--listen", "a fixed port, with three free ones after it", "0"))
    address = endpoint.advertise or endpoint.listen
    with Relay(endpoint.listen, keys):
        named = f"{keys.own.name}@{address}" if keys else address
        console.print(f"relays between all who say --through {named}", markup=False)
        asyncio.run(_stop_signal())


async def _progress(spec: NodeSpec, console: Console) -> None:
    from nodes.monitor import Monitor  # noqa: PLC0415 - imports torch, which other commands need not wait for

    board = StatusBoard("monitor", (), time.time(), show_all=True)
    async with Monitor(spec, board.record), live_display(board, console):
        await _stop_signal()


async def _stop_signal() -> None:
    """Waits for a signal to stop."""
    stop = asyncio.Event()
    with told(lambda _number: stop.set()):
        await stop.wait()
