"""The endpoint of a node that is started by hand: addresses, device and keys, as the command line gives them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from launch.errors import ConfigError, ConfigProblem
from launch.run.keys import load_keyring
from nodes.key_folder import PRIVATE
from protocol.security.keys import Keyring
from protocol.topics import split_endpoint


@dataclass(frozen=True)
class EndpointOptions:
    """Where a node stands.

    Attributes:
        listen: the address that it binds.
        advertise: the address that others reach it at, if it is another.
        join: peers to join through.
        device: overrides the configuration's.
        key: the private file of `fednet keys new`; None: that of the configuration's folder, or no keys.
        insecure: allow addresses beyond loopback without keys.
        through: a relay, if peers cannot connect to this node; then it binds nothing, and joins there by default.
    """

    listen: str
    advertise: str | None = None
    join: tuple[str, ...] = ()
    device: str | None = None
    key: Path | None = None
    insecure: bool = False
    through: str | None = None

    @property
    def incarnation_file(self) -> Path | None:
        """Where a visitor keeps its latest incarnation: beside its keys; None without, as its name is new."""
        return self.key.with_suffix(".incarnation") if self.key else None

    def keyring(self, name: str = "", folder: Path | None = None) -> Keyring | None:
        """Who the node here is, by its own file, or by its name in the configuration's folder; None without keys.

        Raises:
            ConfigError: the keys cannot be used, or are those of another name.
        """
        path = self.key or (folder / f"{name}{PRIVATE}" if folder else None)
        ring = load_keyring(path) if path else None
        if ring is not None and name and ring.own.name != name:
            raise ConfigError(ConfigProblem(f"--key {path}", f"the keys of {name}", f"those of {ring.own.name}"))
        called = [("--join", peer) for peer in self.join] + [("--through", self.through)] * bool(self.through)
        for option, peer in called if ring else ():
            if not split_endpoint(peer or "")[0]:
                hint = "The peer there must hold a key that is trusted here."
                raise ConfigError(ConfigProblem(f"{option} {peer}", f"NAME@{peer}", hint=hint))
        return ring
