"""Plans a run: from a configuration and an inventory to one `NodeSpec` for each node. Pure.

Knows no process and opens no socket; what the machine has is an argument. A plan in which anything is wrong does
not come into being, so nothing is half started.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, cycle, repeat
from pathlib import Path

from launch.config.schema import DRIVER, MONITOR, ClusterConfig, LoadedConfig, NodeEntry
from launch.errors import ConfigError, ConfigProblem
from launch.run.devices import DeviceInventory
from launch.run.folder import incarnation_file
from nodes.spec import NodeSpec, Role
from protocol.security.keys import Keyring
from protocol.topics import NODE_PORTS, RELAY_PORTS, heartbeat_address, is_listen, is_local, split_endpoint

_SOCKET_PATH = 100
"""Longest path of a socket file: the kernel takes 107 bytes (unix(7)); the heartbeat's has a suffix."""
NODE_BYTES = 176 << 20
"""Memory of a node without model and data: 100 nodes of a method without torch models took 17.6 GB."""
CLIENTS_PER_CORE = 8
"""More start slowly: 100 on two cores were not ready after five minutes."""


@dataclass(frozen=True)
class LaunchPlan:
    """What will run.

    Attributes:
        clients: the nodes that hold data and a model, in configuration order.
        guest: the node that asks, and whose end is that of the run.
        monitor: the node that listens for the display, within the launcher's own process.
    """

    clients: tuple[NodeSpec, ...]
    guest: NodeSpec
    monitor: NodeSpec

    @property
    def nodes(self) -> tuple[NodeSpec, ...]:
        """The nodes that are processes."""
        return (*self.clients, self.guest)


def make_plan(
    loaded: LoadedConfig,
    inventory: DeviceInventory,
    folder: Path,
    sockets: Path,
    *,
    keys: Mapping[str, Keyring] | None = None,
    insecure: bool = False,
    elsewhere: Mapping[str, str] | None = None,
) -> LaunchPlan:
    """Plans a cluster; where the configuration names no address, each node picks a free port.

    Whom the nodes join through is not planned: it is whoever is up first, see `launch.run.supervisor`.

    Args:
        loaded: the configuration.
        inventory: what this machine has.
        folder: the run's folder.
        sockets: the folder of ipc sockets; need not exist for tcp.
        keys: the nodes' keys by name; empty without security.
        insecure: allow binds beyond loopback without keys.
        elsewhere: the clients' devices, where they are on other machines; None: all are on this one.

    Raises:
        ConfigError: a device does not exist, an address is used twice, not loopback or too long.
    """
    entries = loaded.cluster.entries
    names = (*entries, DRIVER, MONITOR)
    ports = iter(repeat(0) if loaded.cluster.bus.base_port is None else count(loaded.cluster.bus.base_port, 2))
    listens = {name: entries.get(name, NodeEntry()).listen or _address(loaded, name, ports, sockets) for name in names}
    devices = elsewhere or _devices(loaded, inventory)
    threads = _threads(loaded.cluster, inventory, len(devices)) if elsewhere is None else loaded.cluster.devices.threads
    keys = keys or {}
    _check_addresses(loaded, listens, insecure or bool(keys) or loaded.cluster.security.keys is not None)

    def spec(name: str, role: Role, index: int) -> NodeSpec:
        home = devices[min(devices)] if elsewhere is None else "auto"
        device = devices[name] if role == "client" else home
        return node_spec(
            loaded, name, role, folder, listen=listens[name], join=(), index=index, device=device,
            threads=threads or 1, keys=keys.get(name), insecure=insecure,
        )  # fmt: skip

    clients = tuple(spec(name, "client", index) for index, name in enumerate(entries))
    return LaunchPlan(clients, spec(DRIVER, "guest", 0), spec(MONITOR, "monitor", 0))


def specs_here(
    loaded: LoadedConfig, here: Sequence[str], inventory: DeviceInventory, *, insecure: bool
) -> tuple[NodeSpec, ...]:
    """What would be started on this machine: a launch's nodes, or those clients of a cluster of several machines.

    Args:
        loaded: the configuration.
        here: the nodes of this machine; with the driver if all clients are among them.
        inventory: what this machine has.
        insecure: allow binds beyond loopback without keys.

    Raises:
        ConfigError: a device does not exist, or an address cannot be used.
    """
    folder = Path("runs") / loaded.cluster.slug
    if DRIVER in here:
        return make_plan(loaded, inventory, folder, Path("sockets"), insecure=insecure).nodes
    wide = insecure or loaded.cluster.security.keys is not None
    entries = loaded.cluster.entries
    _check_apart(loaded, {name: entry.listen for name, entry in entries.items() if entry.listen is not None})
    listens = {name: entries[name].listen or "tcp://127.0.0.1:0" for name in here}
    return tuple(
        single_node_spec(loaded, name, "client", inventory, folder, listen=listen, join=(), insecure=wide)
        for name, listen in listens.items()
    )


def node_spec(
    loaded: LoadedConfig,
    name: str,
    role: Role,
    folder: Path,
    *,
    listen: str,
    join: Sequence[str],
    advertise: str | None = None,
    index: int = 0,
    device: str = "cpu",
    threads: int = 1,
    keys: Keyring | None = None,
    insecure: bool = False,
    through: str | None = None,
) -> NodeSpec:
    """One node of a configuration, wherever it runs."""
    cluster = loaded.cluster
    entry = cluster.entries.get(name, NodeEntry())
    return NodeSpec(
        name=name,
        role=role,
        run=cluster.slug,
        listen=listen,
        advertise=advertise,
        join=tuple(join),
        expected=tuple(cluster.entries),
        index=index,
        count=len(cluster.entries),
        device=device,
        threads=threads,
        seed=cluster.seed,
        folder=folder,
        incarnation_file=incarnation_file(folder, name),
        method=cluster.method,
        config=loaded.method,
        site=dict(entry.own_sections),
        policy=cluster.bus.policy,
        rounds=cluster.bus.rounds,
        timing=cluster.bus.timing,
        encoding=cluster.bus.encoding,
        keys=keys,
        insecure=insecure,
        through=through,
    )


def single_node_spec(
    loaded: LoadedConfig,
    name: str,
    role: Role,
    inventory: DeviceInventory,
    folder: Path,
    *,
    listen: str,
    join: Sequence[str],
    advertise: str | None = None,
    device: str | None = None,
    keys: Keyring | None = None,
    insecure: bool = False,
    through: str | None = None,
) -> NodeSpec:
    """One node that is started by hand, with this machine's devices.

    Raises:
        ConfigError: a client that the configuration does not name, or a device or address that cannot be used.
    """
    names = tuple(loaded.cluster.entries)
    if role == "client" and name not in names:
        raise ConfigError(ConfigProblem("--name", f"a client of the configuration ({', '.join(names)})", repr(name)))
    heard_at, option = (split_endpoint(through)[1], "--through") if through else (listen, "--listen")
    ports = RELAY_PORTS if through else NODE_PORTS
    check_listen(heard_at, insecure or keys is not None, ConfigProblem(option), ports)
    index = names.index(name) if name in names else 0
    wanted = device or loaded.cluster.entries.get(name, NodeEntry()).device or loaded.cluster.devices.device
    given = ConfigProblem("--device") if device else _device_problem(loaded, name)
    chosen = _pinned(wanted, index, inventory, given)
    sharing = len(names) if is_local(listen) else 1  # on loopback all of them share this machine
    threads = _threads(loaded.cluster, inventory, sharing)
    return node_spec(
        loaded, name, role, folder, listen=listen, join=join, advertise=advertise, index=index, device=chosen,
        threads=threads, keys=keys, insecure=insecure, through=through,
    )  # fmt: skip


def require_capacity(loaded: LoadedConfig, cores: int, memory: int) -> str:
    """Refuses more clients than this machine has memory for, and says when they are many for its cores.

    Args:
        loaded: the configuration.
        cores: of this machine.
        memory: bytes of it that are free.

    Returns:
        What the operator should know before the start; empty where nothing is.

    Raises:
        ConfigError: the clients alone, before any model or picture, take more memory than there is.
    """
    clients = len(loaded.cluster.entries)
    most = memory // NODE_BYTES - 1  # the driver is one more
    if clients > max(1, most):
        expected = f"at most {max(1, most)} clients, each of {NODE_BYTES >> 20} MiB in {memory / (1 << 30):.1f} GiB"
        hint = "Give fewer, or distribute them over several machines with `fednet node`."
        raise ConfigError(loaded.document.problem(("nodes",), expected, str(clients), hint))
    if clients <= CLIENTS_PER_CORE * cores:
        return ""
    limit = loaded.cluster.bus.timing.ready
    return f"{clients} clients share {cores} cores and start slowly: `bus.timing.ready` ends it after {limit:.0f} s"


def check_listen(listen: str, wide: bool, given: ConfigProblem, ports: int = NODE_PORTS) -> None:
    """Refuses an address that cannot be bound, or that is beyond loopback without keys or `--insecure`.

    Args:
        listen: the address.
        wide: whether it may be beyond loopback.
        given: where the address comes from, for the message.
        ports: how many ports in a row it takes.

    Raises:
        ConfigError: it is no address, or it is not loopback and `wide` is false.
    """
    if not is_listen(listen, ports):
        taken = "the heartbeats take the next one" if ports == NODE_PORTS else f"it takes the next {ports - 1}, too"
        expected = f"tcp://host:port with a port up to {2**16 - ports} ({taken}), or ipc://path"
        raise ConfigError(ConfigProblem(given.where, expected, repr(listen), given.line, given.key))
    if not wide and not is_local(listen):
        hint = (
            "Give it keys (`security: {keys: DIR}` or --key), or use --insecure if every host of that network may read "
            "and write."
        )
        raise ConfigError(ConfigProblem(given.where, "a loopback address", repr(listen), given.line, given.key, hint))


def _address(loaded: LoadedConfig, name: str, ports: Iterator[int], sockets: Path) -> str:
    if loaded.cluster.bus.transport == "ipc":
        return f"ipc://{sockets / name}"
    return f"tcp://127.0.0.1:{next(ports)}"


def _threads(cluster: ClusterConfig, inventory: DeviceInventory, sharing: int) -> int:
    """Threads of a node: what is configured, or the cores divided among the clients that share this machine."""
    return cluster.devices.threads or max(1, inventory.cores // sharing)


def _devices(loaded: LoadedConfig, inventory: DeviceInventory) -> dict[str, str]:
    """The device of each client; `auto` goes round the CUDA devices in configuration order."""
    turn = cycle(range(max(1, inventory.cuda)))
    chosen: dict[str, str] = {}
    faults: list[ConfigProblem] = []
    for name, entry in loaded.cluster.entries.items():
        wanted = entry.device or loaded.cluster.devices.device
        number = next(turn) if wanted == "auto" else 0
        try:
            chosen[name] = _pinned(wanted, number, inventory, _device_problem(loaded, name))
        except ConfigError as error:
            faults += error.problems
    if faults:
        raise ConfigError(*dict.fromkeys(faults))
    return chosen


def _device_problem(loaded: LoadedConfig, name: str) -> ConfigProblem:
    """Where a client's device is configured, for the message."""
    key: tuple[str, ...] = ("nodes", name, "device")
    if loaded.cluster.entries.get(name, NodeEntry()).device is None:
        key = ("devices", "device")
    place = loaded.document.place(key)
    return ConfigProblem(place.where, line=place.line, key=".".join(key))


def _pinned(wanted: str, number: int, inventory: DeviceInventory, given: ConfigProblem) -> str:
    """A torch device string for a wish; `number` is the turn of `auto`."""
    there = ["cpu", *(f"cuda:{index}" for index in range(inventory.cuda))]
    if wanted == "auto":
        return f"cuda:{number % inventory.cuda}" if inventory.cuda else "cpu"
    if wanted == "cuda" and inventory.cuda:
        return "cuda:0"
    if wanted not in there:
        expected = f"auto or a device of this machine ({', '.join(there)})"
        raise ConfigError(ConfigProblem(given.where, expected, repr(wanted), given.line, given.key))
    return wanted


def _listen_problem(loaded: LoadedConfig, name: str) -> ConfigProblem:
    """Where a node's address is configured, for the message."""
    place = loaded.document.place(("nodes", name, "listen"))
    return ConfigProblem(place.where, line=place.line, key=f"nodes.{name}.listen")


def _check_apart(loaded: LoadedConfig, listens: Mapping[str, str]) -> None:
    """Refuses a node whose address, or the port beside it for its heartbeats, is another's."""
    owners: dict[str, str] = {}
    for name, listen in listens.items():
        if listen.endswith(":0"):
            continue  # whatever is free
        for address in (listen, heartbeat_address(listen)) if is_listen(listen) else (listen,):
            if (other := owners.setdefault(address, name)) != name:
                given = _listen_problem(loaded, name)
                expected = "an address of its own, and the port after it for its heartbeats"
                taken = f"{address}, which {other} takes"
                raise ConfigError(ConfigProblem(given.where, expected, taken, given.line, given.key))


def _check_addresses(loaded: LoadedConfig, listens: dict[str, str], insecure: bool) -> None:
    _check_apart(loaded, listens)
    for name, listen in listens.items():
        given = _listen_problem(loaded, name)
        if len(listen.removeprefix("ipc://").encode()) > _SOCKET_PATH:
            expected = f"a socket path of at most {_SOCKET_PATH} bytes"
            raise ConfigError(ConfigProblem(given.where, expected, repr(listen), given.line, given.key))
        check_listen(listen, insecure, given)
