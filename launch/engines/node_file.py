"""The node file: all that a process needs to be one node, as a validated JSON document.

It holds the node's specification, its method's settings, the public keys of everybody and the private keys of this node
alone. Nothing is pickled. A file with private keys is readable by its owner only; on standard input it touches no disk.
Knows no engine.
"""

from __future__ import annotations

import json
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fednet.files import write_whole
from fednet.methods import registry
from launch.errors import ConfigError, ConfigProblem
from nodes.seed import find_seed
from nodes.spec import NodeSpec
from protocol.errors import KeyFormatError
from protocol.security.keys import Keyring, PrivateKeys, PublicKeys

CUDA_VISIBLE = "CUDA_VISIBLE_DEVICES"
"""The environment's variable by which CUDA numbers what a process sees."""

MAX_BYTES = 8 << 20
"""Bytes of a node file, at most: settings and 200 public keys take some 100 KB."""

_OTHERS_PERMISSIONS = stat.S_IRWXG | stat.S_IRWXO


class NodeFile(BaseModel):
    """The content of a node file.

    Attributes:
        fednet: marks the kind of the document.
        spec: the node, without its settings and keys.
        config: the method's settings.
        public_keys: of everybody that it trusts, itself included; empty without security.
        private_keys: its own; None without security.
        key_file: the private file around which the trusted keys lie; what changes there counts where this exists.
        visible_gpus: what `CUDA_VISIBLE_DEVICES` is set to; None: as it is there.
        seed: the file in which a node to join through announces itself, beside those of `spec.join`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    fednet: Literal["node"] = "node"
    spec: NodeSpec
    config: dict[str, Any] | None = None
    public_keys: tuple[PublicKeys, ...] = ()
    private_keys: PrivateKeys | None = Field(None, repr=False)
    key_file: Path | None = None
    visible_gpus: str | None = None
    seed: Path | None = None

    @classmethod
    def of(cls, spec: NodeSpec, *, visible_gpus: str | None = None, seed: Path | None = None) -> NodeFile:
        """The file of a node."""
        keys = spec.keys
        return cls(
            spec=replace(spec, config=None, keys=None),
            config=spec.config.model_dump(mode="json") if spec.config is not None else None,
            public_keys=(*keys.trusted.values(), *keys.relays.values()) if keys else (),
            private_keys=keys.own if keys else None,
            key_file=keys.file if keys else None,
            visible_gpus=visible_gpus,
            seed=seed,
        )

    def text(self) -> str:
        """The document, in one line."""
        return json.dumps(self.model_dump(mode="json", exclude={"spec": {"config", "keys"}}))

    def write(self, path: Path) -> None:
        """Writes it where its owner alone can read it."""
        write_whole(path, f"{self.text()}\n".encode())

    def node(self) -> NodeSpec:
        """The node; sets `CUDA_VISIBLE_DEVICES` for whatever this process does from now on.

        Raises:
            ConfigError: the settings are not those of its method, or the keys contradict each other.
        """
        if self.visible_gpus is not None:
            os.environ[CUDA_VISIBLE] = self.visible_gpus
        return replace(self.spec, config=self._settings(), keys=self._keyring())

    def joined(self, spec: NodeSpec) -> NodeSpec:
        """The node that joins through its seed, too, once that has announced itself; the same where it has none.

        Raises:
            PeersMissing: the seed did not announce itself in time.
        """
        if self.seed is None:
            return spec
        seed = find_seed(self.seed, spec.timing.ready, keyed=spec.keys is not None)
        return replace(spec, join=(seed, *spec.join))

    def _settings(self) -> BaseModel | None:
        if self.config is None:
            return None
        try:
            schema = registry.find(self.spec.method).config
            return schema.model_validate_json(json.dumps(self.config), strict=True)
        except ValidationError as error:
            raise ConfigError(_problem(f"the node file of {self.spec.name}", error)) from None

    def _keyring(self) -> Keyring | None:
        if self.private_keys is None:
            return None
        try:
            here = self.key_file is not None and self.key_file.is_file()
            return Keyring.of(self.private_keys, self.public_keys, self.key_file if here else None)
        except KeyFormatError as fault:
            hint = f"The keys contradict each other: {fault}."
            raise ConfigError(ConfigProblem(f"the node file of {self.spec.name}", hint=hint)) from None


def parse_node_file(text: str | bytes, where: str) -> NodeFile:
    """A node file from its text; `where` names it in errors.

    Raises:
        ConfigError: it is none; private keys are not repeated.
    """
    if len(text) > MAX_BYTES:
        raise ConfigError(ConfigProblem(where, f"a node file of at most {MAX_BYTES >> 20} MiB"))
    try:
        return NodeFile.model_validate_json(text)
    except ValidationError as error:
        raise ConfigError(_problem(where, error)) from None


def read_node_file(path: Path) -> NodeFile:
    """A node file.

    Raises:
        ConfigError: it cannot be read or is none, or others may read its private keys.
    """
    try:
        with path.open("rb") as file:
            content, mode = file.read(MAX_BYTES + 1), os.fstat(file.fileno()).st_mode
    except OSError as error:
        raise ConfigError(ConfigProblem(str(path), "a node file", error.strerror or str(error))) from error
    read = parse_node_file(content, str(path))
    if read.private_keys is not None and mode & _OTHERS_PERMISSIONS:
        expected, hint = "a file that its owner alone can read", f"It holds private keys: chmod 600 {path}"
        raise ConfigError(ConfigProblem(str(path), expected, stat.filemode(mode), hint=hint))
    return read


def _problem(where: str, error: ValidationError) -> ConfigProblem:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    key = ".".join(map(str, first["loc"]))
    return ConfigProblem(where, "a node file as an engine writes it", key=key, hint=f"{first['msg']}.")
