"""What every rendered run has, whoever starts it: nodes, their commands, the configuration that they read, their keys.

Each node is `fednet node --config ... --name ...` in a container: it listens on every interface, is reached by the name
that its container has on their network, and gets its own private key and everybody's public one. Keys are made here, at
submission; nothing is bound beyond loopback without them. Knows no format of anybody's file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from fednet.files import write_whole
from launch.config.schema import DRIVER, LoadedConfig, SecurityConfig
from launch.errors import ConfigError, ConfigProblem
from launch.run.devices import DeviceInventory
from launch.run.keys import ensure_keyrings, require_agreement
from launch.run.local_data import folders
from launch.run.plan import single_node_spec
from nodes.key_folder import PRIVATE, PUBLIC
from nodes.spec import NodeSpec, Role

PORT: Final = 7400
"""Messages; heartbeats take the next one."""
CONFIG: Final = "/etc/fednet/cluster.yaml"
KEYS: Final = "/run/fednet/keys"
RUNS: Final = "/runs"
"""Where a container has the configuration, its keys, and what it leaves."""
MARK: Final = "image/Dockerfile"
"""The file by which a folder of rendered files is known."""

_LONGEST = 40
"""Characters of a run's name for engines: 63 are allowed in DNS, of a pod with its index."""
_SEEDS = 2
"""How many peers a node joins through: one suffices, the second is for the case that the first has died."""


def label(slug: str) -> str:
    """A run's name for engines: a label of DNS that begins with a letter (RFC 1035), and as well a name of an image."""
    return re.sub(r"[_-]+", "-", f"fednet-{slug}")[:_LONGEST].rstrip("-")


@dataclass(frozen=True)
class RenderedNode:
    """One node.

    Attributes:
        spec: the node, as far as it is planned here.
        roots: the folders whose data it reads.
    """

    spec: NodeSpec
    roots: tuple[Path, ...]

    @property
    def name(self) -> str:
        """Its name."""
        return self.spec.name

    @property
    def private(self) -> str:
        """Where its container has its private key; the public one is beside it."""
        return f"{KEYS}/{self.name}{PRIVATE}"

    def command(self, hosts: Mapping[str, str], device: str) -> tuple[str, ...]:
        """What its container runs.

        Args:
            hosts: the names by which the nodes reach each other, by node.
            device: where it computes, as its container sees it.
        """
        seeds = [name for name in hosts if name not in {self.name, DRIVER}][:_SEEDS]
        return (
            "fednet", "node", "--role", self.spec.role, "--config", CONFIG, "--name", self.name,
            "--listen", f"tcp://*:{PORT}", "--advertise", f"tcp://{hosts[self.name]}:{PORT}",
            *(part for name in seeds for part in ("--join", f"{name}@tcp://{hosts[name]}:{PORT}")),
            "--device", device, "--key", self.private, "--out", RUNS,
        )  # fmt: skip


@dataclass(frozen=True)
class Deployment:
    """A run that is rendered.

    Attributes:
        loaded: the configuration, as the operator gave it.
        folder: where the files go.
        clients: in the order of the configuration.
        driver: the node whose end is that of the run.
    """

    loaded: LoadedConfig
    folder: Path
    clients: tuple[RenderedNode, ...]
    driver: RenderedNode

    @property
    def label(self) -> str:
        """The run's name for engines."""
        return label(self.loaded.cluster.slug)

    @property
    def nodes(self) -> tuple[RenderedNode, ...]:
        """All nodes."""
        return (*self.clients, self.driver)

    @property
    def keys(self) -> Path:
        """The operator's own folder of keys: that of the configuration, or one that is made with the files."""
        return self.loaded.cluster.security.keys or self.folder / "keys"

    @property
    def config(self) -> str:
        """The cluster.yaml that the nodes read: addresses, devices and keys are their commands' to say."""
        cluster, spec = self.loaded.cluster, self.driver.spec
        entries = {
            name: entry.model_copy(update={"listen": None, "device": None}) for name, entry in cluster.entries.items()
        }
        devices = cluster.devices.model_copy(update={"device": "auto", "threads": spec.threads})
        rendered = cluster.model_copy(update={"nodes": entries, "devices": devices, "security": SecurityConfig()})
        return replace(self.loaded, cluster=rendered).dump()

    def make_keys(self) -> dict[str, Path]:
        """Makes the keys that are missing; returns everybody's private file by name.

        Raises:
            ConfigError: keys cannot be made or read, or are not those that the configuration names.
        """
        rings = ensure_keyrings({node.name: node.spec.role for node in self.nodes}, self.keys)
        for ring in rings.values():
            require_agreement(ring, self.loaded.cluster.fingerprints)
        return {name: self.keys / f"{name}{PRIVATE}" for name in rings}

    def public_texts(self) -> dict[str, str]:
        """The public keys of all nodes by the names of their files; they have been made."""
        files = (self.keys / f"{node.name}{PUBLIC}" for node in self.nodes)
        return {file.name: file.read_text("utf-8") for file in files}


def plan_deployment(loaded: LoadedConfig, folder: Path, inventory: DeviceInventory, *, shared: bool) -> Deployment:
    """Plans a run that is to be rendered.

    Args:
        loaded: the configuration.
        folder: where the files go.
        inventory: what a node can see: of the machine that all share, or of a container.
        shared: whether they share a machine, whose cores then are divided.

    Raises:
        ConfigError: a node wants a device that is not there, or the folder holds something else.
    """
    listen = "tcp://127.0.0.1:0" if shared else f"tcp://*:{PORT}"

    def node(name: str) -> RenderedNode:
        role: Role = "guest" if name == DRIVER else "client"
        spec = single_node_spec(
            loaded, name, role, inventory, Path(RUNS), listen=listen, join=(), insecure=True  # has keys
        )  # fmt: skip
        return RenderedNode(spec, tuple(folders(loaded, (name,))))

    _require_own(folder)
    return Deployment(loaded, folder, tuple(node(name) for name in loaded.cluster.entries), node(DRIVER))


def _require_own(folder: Path) -> None:
    """Refuses a folder that is neither new nor that of an earlier rendering."""
    if folder.exists() and not (folder.is_dir() and ((folder / MARK).is_file() or not any(folder.iterdir()))):
        hint = "Choose another place with --to: nothing here is overwritten."
        raise ConfigError(ConfigProblem(str(folder), "an empty folder or that of an earlier rendering", hint=hint))


def write_files(folder: Path, files: Mapping[str, str], *, private: bool = False) -> None:
    """Writes files, by their path in the folder; private ones are their owner's alone to read.

    Raises:
        ConfigError: the folder cannot be written.
    """
    try:
        for path, text in files.items():
            write_whole(folder / path, text.encode(), shared=not private)
    except OSError as error:
        raise ConfigError(
            ConfigProblem(str(folder), "a folder that can be written", error.strerror or str(error))
        ) from error
