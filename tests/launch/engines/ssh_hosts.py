"""Hosts for tests of the engine `ssh`: asyncssh servers on loopback that run what they are told as this user does."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh


@dataclass(frozen=True)
class Hosts:
    """Servers that let one key in.

    Attributes:
        ports: of each, by the name of the host.
        identity: the private key that they let in.
        stranger: one that they do not.
        known_hosts: the file with their own keys.
    """

    ports: dict[str, int]
    identity: Path
    stranger: Path
    known_hosts: Path


async def _run(process: Any) -> None:
    """Runs a command in a session of its own, and ends it with its connection, as sshd does."""
    child = await asyncio.create_subprocess_shell(
        process.command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE, start_new_session=True, env={**os.environ, "FEDNET_HOST": "remote"},
    )  # fmt: skip
    async with process:  # in the end what it has queued for the command's input is waited for
        await process.redirect(stdin=child.stdin, stdout=child.stdout, stderr=child.stderr)
        code = await child.wait()
        with suppress(OSError, asyncssh.Error):
            await process.stdout.drain()
            if code < 0:
                process.exit_with_signal(signal.Signals(-code).name.removeprefix("SIG"))
            else:
                process.exit(code)


@asynccontextmanager
async def listening(folder: Path, *names: str) -> AsyncIterator[Hosts]:
    """Servers of these names, each on a port of its own, for as long as the body runs."""
    keys = {name: asyncssh.generate_private_key("ssh-ed25519") for name in ("host", "user", "stranger")}
    for name in ("user", "stranger"):
        keys[name].write_private_key(str(folder / name))
        (folder / name).chmod(0o600)
    keys["user"].write_public_key(str(folder / "authorized"))
    servers = [
        await asyncssh.listen(
            "127.0.0.1", 0, server_host_keys=[keys["host"]], authorized_client_keys=str(folder / "authorized"),
            process_factory=_run, encoding=None,
        )
        for _ in names
    ]  # fmt: skip
    public = keys["host"].export_public_key().decode().strip()
    ports = {name: server.get_port() for name, server in zip(names, servers, strict=True)}
    (folder / "known").write_text("".join(f"[127.0.0.1]:{port} {public}\n" for port in ports.values()))
    try:
        yield Hosts(ports, folder / "user", folder / "stranger", folder / "known")
    finally:
        for server in servers:
            server.close()
            await server.wait_closed()
