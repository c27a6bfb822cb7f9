"""The seed: one node writes its address into a file, and the others join through it.

For nodes that are started together, before the address of any is known, and share a folder. Only the seed's address is
handed out; presence messages spread all others.
"""

from __future__ import annotations

import time
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fednet.files import write_whole
from nodes.errors import NodeError, PeersMissing
from protocol.topics import MAX_ADDRESS_BYTES, NAME, is_address

LOOK = 0.1
"""Seconds between two looks for the file."""

_MAX_BYTES = 1024


class _Seed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=f"^{NAME}$")
    address: str = Field(max_length=MAX_ADDRESS_BYTES)


def announce_seed(path: Path, name: str, address: str) -> None:
    """Writes the address of the seed, whole or not at all."""
    write_whole(path, _Seed(name=name, address=address).model_dump_json().encode())


def find_seed(path: Path, patience: float, *, keyed: bool) -> str:
    """Waits for the seed, and returns its endpoint: its address, with keys as `name@address`.

    Raises:
        PeersMissing: it has not announced itself after `patience` seconds.
        NodeError: the file is no announcement.
    """
    deadline = time.monotonic() + patience
    while not path.is_file():
        if time.monotonic() >= deadline:
            raise PeersMissing({str(path): "nobody has announced an address there"}, patience)
        time.sleep(LOOK)
    try:
        with path.open("rb") as file:
            seed = _Seed.model_validate_json(file.read(_MAX_BYTES))
    except ValidationError as error:
        raise NodeError(f"{path} is not the announcement of a node: expected a name and an address") from error
    if not is_address(seed.address):
        raise NodeError(f"{path} names {seed.address!r}, which is no address of a node")
    return f"{seed.name}@{seed.address}" if keyed else seed.address
