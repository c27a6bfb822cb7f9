"""The engine `ssh`: clients on machines that are reached by ssh, each on a connection of its own.

Nothing is copied: a node gets its node file, with its private keys, on standard input (`launch.run.placed`), and its
output comes back into the run's folder. That input is its lifeline, so that it ends with the connection, and that with
the launcher. Each host needs a Python with this version of fednet, and ports that the others reach. Knows ssh by
asyncssh, which reads the user's own configuration, keys and known hosts.
"""

from __future__ import annotations

import asyncio
import hashlib
import shlex
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import Any

import asyncssh

import fednet
from launch.config.engines import SshEngineConfig, SshHost
from launch.config.schema import LoadedConfig
from launch.engines.interface import LOOPBACK, Capacity, Engine, Handle, Hint, elsewhere, reached_at
from launch.engines.logs import NodeLog
from launch.engines.node_file import NodeFile
from launch.errors import EXIT_PEER_ERROR, ConfigError
from launch.run.placed import STOP
from nodes.spec import NodeSpec

KEEPALIVE, MISSED = 5.0, 3
"""Seconds between two questions whether the host is still there, and how many may go unanswered."""

_CHUNK = 1 << 16


@dataclass(frozen=True)
class SshPlace:
    """Where a client is placed.

    Attributes:
        host: what the host is called in the configuration.
        device: torch device string, as the client sees it.
        visible_gpus: what it sees; None for all that there are.
    """

    host: str
    device: str
    visible_gpus: str | None


def deal(loaded: LoadedConfig, wanted: Mapping[str, tuple[str, str | None]]) -> dict[str, SshPlace]:
    """The place of each client: its host or the next one, and there its GPU or the next one. Pure.

    Args:
        loaded: the configuration.
        wanted: by client its device and, where it names one, its host.

    Raises:
        ConfigError: a client wants a GPU that its host does not have.
    """
    config = loaded.cluster.engine
    assert isinstance(config, SshEngineConfig)  # noqa: S101 - else this is not its engine
    turns, gpus = cycle(config.hosts), {name: cycle(host.devices) for name, host in config.hosts.items()}
    places: dict[str, SshPlace] = {}
    for name, (device, named) in wanted.items():
        host = named or next(turns)
        there = config.hosts[host].devices
        kind, _, number = device.partition(":")
        if device == "cpu" or (device == "auto" and not there):
            places[name] = SshPlace(host, "cpu", "")
            continue
        if not there or (number and int(number) not in there) or kind not in {"auto", "cuda"}:
            known = ", ".join(map(str, there)) or "none"
            raise _refused(loaded, host, f"a GPU of it ({known})", f"{device} for {name}")
        places[name] = SshPlace(host, "cuda:0", number or str(next(gpus[host])))
    return places


class SshHandle(Handle):
    """A node on another machine."""

    def __init__(self, connection: Any, process: Any, log: Path, place: SshPlace) -> None:
        self._connection, self._process, self._host = connection, process, place.host
        ended = asyncio.ensure_future(self._follow(NodeLog(log)))
        super().__init__(log, {"host": place.host, "device": place.device}, ended)

    def stop(self, *, kill: bool = False) -> None:
        """Says so on its lifeline, or cuts it."""
        with suppress(OSError, asyncssh.Error):
            if kill:
                self._process.stdin.write_eof()
                self._process.kill()
            else:
                self._process.stdin.write(STOP)

    async def _follow(self, log: NodeLog) -> int:
        """Writes what the node writes into its log, until it ends or its host is gone; returns how it has ended."""
        trouble = ""
        try:
            while chunk := await self._process.stdout.read(_CHUNK):
                log.feed(chunk)
            await self._process.wait_closed()
        except (OSError, asyncssh.Error) as error:
            trouble = f"{self._host}: {error}"
        if not trouble and self._process.exit_status is None and self._process.exit_signal is None:
            trouble = f"the connection to {self._host} was lost"
        log.end(trouble)
        self._connection.close()
        return self._exit_code()

    def _exit_code(self) -> int:
        if self._process.exit_signal is not None:
            numbers = {number.name: int(number) for number in signal.Signals}
            return -numbers.get(f"SIG{self._process.exit_signal[0]}", int(signal.SIGKILL))
        status = self._process.exit_status
        if status is None:
            return EXIT_PEER_ERROR
        return -(status - 128) if status > 128 else int(status)


class SshEngine(Engine):
    """Starts clients on the hosts of a configuration.

    Args:
        loaded: the configuration, whose engine is `ssh`.
        logs: the folder for what nodes write.
    """

    def __init__(self, loaded: LoadedConfig, logs: Path) -> None:
        super().__init__()
        config = loaded.cluster.engine
        assert isinstance(config, SshEngineConfig)  # noqa: S101 - else this is not its engine
        self._loaded, self._config, self._logs = loaded, config, logs
        self._places: dict[str, SshPlace] = {}
        self._reached: dict[str, str] = {}
        self.address = config.address or LOOPBACK

    async def capacity(self) -> Capacity:
        """The GPUs that the configuration lists."""
        return Capacity({name: len(host.devices) for name, host in self._config.hosts.items()})

    async def reserve(self, wanted: Sequence[tuple[NodeSpec, Hint]]) -> None:
        """Gives each client its place, and makes sure that every host can be reached and has this fednet."""
        self._places = deal(self._loaded, {spec.name: (spec.device, hint.host) for spec, hint in wanted})
        hosts = list(dict.fromkeys(place.host for place in self._places.values()))
        seen = await asyncio.gather(*map(self._examine, hosts), return_exceptions=True)
        faults = [problem for each in seen if isinstance(each, ConfigError) for problem in each.problems]
        if faults:
            raise ConfigError(*faults)
        ours = [each for each in seen if isinstance(each, str)]
        if self._config.address is None and len(ours) == len(seen):
            self.address = next((each for each in ours if each not in {LOOPBACK, "::1"}), ours[0])
        for each in seen:
            if isinstance(each, BaseException):
                raise each

    async def place(self, spec: NodeSpec, hint: Hint) -> SshHandle:
        """Starts a client on its host; the driver of ssh is the user's own configuration."""
        place = self._places[spec.name]
        file = NodeFile.of(self._there(spec, place), visible_gpus=place.visible_gpus)
        connection = await self._connect(place.host)
        command = f"exec {shlex.quote(self._config.hosts[place.host].python)} -m launch node --spec -"
        process = await connection.create_process(command, stderr=asyncssh.STDOUT, encoding=None)
        process.stdin.write(f"{file.text()}\n".encode())
        handle = SshHandle(connection, process, self._logs / f"{spec.name}.log", place)
        self._handles.append(handle)
        return handle

    def _there(self, spec: NodeSpec, place: SshPlace) -> NodeSpec:
        """The node as its host sees it: its own address, folder, data and device."""
        host = self._config.hosts[place.host]
        there = reached_at(elsewhere(spec, host.folder / _run_folder(spec)), host.listen or self._reached[place.host])
        return replace(there, device=place.device, site=_with_root(spec.site, host))

    async def _examine(self, name: str) -> str:
        """Looks whether a host has this fednet; returns the number by which it sees this machine."""
        connection = await self._connect(name)
        there, ours = (str(connection.get_extra_info(end)[0]) for end in ("peername", "sockname"))
        python = self._config.hosts[name].python
        try:
            probe = f"{shlex.quote(python)} -c 'import fednet, launch; print(fednet.__version__)'"
            done = await connection.run(probe, check=False, timeout=self._config.timeout)
        except (TimeoutError, OSError, asyncssh.Error) as error:
            raise _refused(self._loaded, name, f"a host on which {python} starts", str(error)) from error
        finally:
            connection.close()
        said = str(done.stdout).strip() if done.exit_status == 0 else str(done.stderr).strip().splitlines()[-1:]
        if said != fednet.__version__:
            expected = f"fednet {fednet.__version__} in {python} there"
            raise _refused(self._loaded, name, expected, said if isinstance(said, str) else "".join(said) or "nothing")
        self._reached[name] = there
        return ours

    async def _connect(self, name: str) -> Any:
        """Connects to a host as `ssh NAME` does.

        Raises:
            ConfigError: it does not answer, is another than it should be, or does not let this user in.
        """
        host, config = self._config.hosts[name], self._config
        options: dict[str, Any] = {"keepalive_interval": KEEPALIVE, "keepalive_count_max": MISSED}
        options |= {key: value for key, value in (("port", host.port), ("username", host.user)) if value is not None}
        options |= {"client_keys": [str(config.identity)], "agent_path": None} if config.identity else {}
        options |= {"known_hosts": str(config.known_hosts)} if config.known_hosts else {}
        try:
            return await asyncio.wait_for(asyncssh.connect(host.address or name, **options), config.timeout)
        except TimeoutError as error:
            wanted, given = f"an answer within {config.timeout:.0f} s", "none"
            raise _refused(self._loaded, name, wanted, given) from error
        except socket.gaierror as error:
            raise _refused(self._loaded, name, "the name or number of a host", f"{host.address or name!r}") from error
        except asyncssh.HostKeyNotVerifiable as error:
            hint = f"`ssh {name}` once shows its key and keeps it."
            raise _refused(self._loaded, name, "a host whose key is known", str(error), hint) from error
        except asyncssh.PermissionDenied as error:
            raise _refused(self._loaded, name, "a host that lets this user in", str(error)) from error
        except (OSError, asyncssh.Error) as error:
            raise _refused(self._loaded, name, "a host that answers to ssh", str(error)) from error


def _run_folder(spec: NodeSpec) -> str:
    """The name of a run's folder on a host, which launches from other folders do not share."""
    here = f"{socket.gethostname()}:{spec.folder.absolute()}"
    return f"{spec.run}-{hashlib.sha256(here.encode()).hexdigest()[:8]}"


def _with_root(site: dict[str, Any], host: SshHost) -> dict[str, Any]:
    """What a client says for itself, with the root of its host's data unless it names its own."""
    own = site.get("data", {})
    return site if host.data is None or "root" in own else {**site, "data": {"root": str(host.data), **own}}


def _refused(loaded: LoadedConfig, host: str, expected: str, given: str, hint: str = "") -> ConfigError:
    return ConfigError(loaded.document.problem(("engine", "hosts", host), expected, given, hint))
