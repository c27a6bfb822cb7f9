"""The engine `ray`: clients on a Ray cluster, an actor each, placed together by a placement group.

Each actor reserves what its client needs and keeps the node as a child (`launch.engines.ray_keeper`); the GPUs that Ray
gives an actor are all that its node sees. Nothing is detached: the launcher is Ray's driver, and its actors end with
it. What cannot be placed in time is named, with what there is. Knows Ray by its public interface.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import ray
from ray.exceptions import RayError
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from launch.config.engines import RayEngineConfig
from launch.config.schema import LoadedConfig
from launch.engines.interface import Capacity, Engine, Handle, Hint, elsewhere, reached_at
from launch.engines.logs import NodeLog
from launch.engines.node_file import NodeFile
from launch.engines.ray_keeper import NodeKeeper
from launch.errors import ConfigError
from nodes.spec import NodeSpec

CONNECT = 10.0
"""Seconds for a connection to the head."""

CALLS = 4
"""Calls of an actor that may overlap: one waits for output, one for the end, one stops."""


class RayHandle(Handle):
    """A node that an actor keeps."""

    def __init__(self, keeper: Any, log: Path, details: Mapping[str, Any]) -> None:
        self._keeper = keeper
        super().__init__(log, details, asyncio.ensure_future(self._follow(NodeLog(log))))

    def stop(self, *, kill: bool = False) -> None:
        """Has its actor say so, or kills the actor and with it the node."""
        with suppress(RayError):
            if kill:
                ray.kill(self._keeper)
            else:
                self._keeper.stop.remote()

    async def _follow(self, log: NodeLog) -> int:
        """Writes what the node writes into its log, until it ends or its actor is gone; returns how it has ended."""
        trouble = ""
        try:
            while chunk := await self._keeper.read.remote():
                log.feed(chunk)
            code = int(await self._keeper.wait.remote())
        except RayError as error:
            code, trouble = -signal.SIGKILL, f"its Ray actor is gone: {_line(error)}"
        log.end(trouble)
        self.stop(kill=True)  # what its actor has reserved is free for the next life
        return code


class RayEngine(Engine):
    """Starts clients on a Ray cluster that this machine is a part of.

    Args:
        loaded: the configuration, whose engine is `ray`.
        logs: the folder for what nodes write.
    """

    def __init__(self, loaded: LoadedConfig, logs: Path) -> None:
        super().__init__()
        config = loaded.cluster.engine
        assert isinstance(config, RayEngineConfig)  # noqa: S101 - else this is not its engine
        self._loaded, self._config, self._logs = loaded, config, logs
        self._group: Any = None
        self._bundles: dict[str, int] = {}

    async def __aenter__(self) -> Self:
        """Connects as a driver, whose end is that of its actors.

        Raises:
            ConfigError: no Ray is running there.
        """
        try:
            await self._look()
            await asyncio.to_thread(  # on the main thread Ray would take SIGTERM
                ray.init, self._config.address, log_to_driver=False, configure_logging=False,
                logging_level=logging.ERROR, namespace=f"fednet-{self._loaded.cluster.slug}",
            )  # fmt: skip
        except (OSError, RuntimeError, ValueError) as error:
            hint = "`ray start --head` starts one; a launch runs on a machine of the cluster."
            raise self._refused("address", "a Ray cluster that is running", _line(error), hint) from error
        self.address = ray.util.get_node_ip_address()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kills the actors that are left, gives back what was reserved, and disconnects."""
        await super().__aexit__(kind, error, trace)
        with suppress(RayError):
            if self._group is not None:
                remove_placement_group(self._group)
        await asyncio.to_thread(ray.shutdown)

    async def _look(self) -> None:
        """Makes sure that somebody listens: Ray would try for minutes.

        Raises:
            OSError: nobody does.
        """
        host, _, port = self._config.address.rpartition(":")
        if host:
            _, writer = await asyncio.wait_for(asyncio.open_connection(host, int(port)), CONNECT)
            writer.close()

    async def capacity(self) -> Capacity:
        """The GPUs of the cluster's machines that are alive."""
        return Capacity(
            {
                f"{each['NodeManagerAddress']}/{each['NodeID'][:6]}": int(each["Resources"].get("GPU", 0))
                for each in ray.nodes()
                if each["Alive"]
            }
        )

    async def reserve(self, wanted: Sequence[tuple[NodeSpec, Hint]]) -> None:
        """Reserves what all clients need, together.

        Raises:
            ConfigError: the cluster has not got it in time; says what it has.
        """
        bundles = [{"CPU": self._config.cpus, **({"GPU": hint.gpus} if hint.gpus else {})} for _, hint in wanted]
        labels = [dict(hint.labels) for _, hint in wanted]
        self._group = placement_group(
            bundles, strategy=self._config.strategy, bundle_label_selector=labels if any(labels) else None
        )
        self._bundles = {spec.name: index for index, (spec, _) in enumerate(wanted)}
        if not await asyncio.to_thread(self._group.wait, self._config.timeout):
            raise await self._short(wanted)

    async def place(self, spec: NodeSpec, hint: Hint) -> RayHandle:
        """Has an actor start a client.

        Raises:
            ConfigError: the actor was not placed in time.
        """
        there = elsewhere(spec, (self._config.folder or spec.folder).absolute())
        keeper = self._actor(spec.name, hint)
        try:
            address = await asyncio.wait_for(keeper.address.remote(), self._config.timeout)
            details = await keeper.start.remote(NodeFile.of(reached_at(there, address)).text())
        except (TimeoutError, RayError) as error:
            ray.kill(keeper)
            if isinstance(error, TimeoutError):
                raise await self._short([(spec, hint)]) from error
            raise self._refused("", "an actor that starts", _line(error)) from error
        handle = RayHandle(keeper, self._logs / f"{spec.name}.log", {**details, "device": there.device})
        self._handles.append(handle)
        return handle

    def _actor(self, name: str, hint: Hint) -> Any:
        place = PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=self._bundles[name])
        options = {"num_cpus": self._config.cpus, "num_gpus": hint.gpus, "max_concurrency": CALLS, "max_restarts": 0}
        return ray.remote(NodeKeeper).options(scheduling_strategy=place, **options).remote()

    async def _short(self, wanted: Sequence[tuple[NodeSpec, Hint]]) -> ConfigError:
        """What is missing for these clients."""
        free = ray.available_resources()
        gpus = (await self.capacity()).gpus
        asked = sum(hint.gpus for _, hint in wanted)
        labels = sorted({f"{key}={value}" for _, hint in wanted for key, value in hint.labels.items()})
        needed = (
            f"{len(wanted) * self._config.cpus} CPUs and {asked} GPUs for {', '.join(spec.name for spec, _ in wanted)}"
        )
        needed += f" ({self._config.strategy})" + (f" on machines labelled {', '.join(labels)}" if labels else "")
        there = ", ".join(f"{name} {count}" for name, count in gpus.items())
        given = f"{free.get('CPU', 0):.0f} CPUs and {free.get('GPU', 0):.0f} GPUs that are free (GPUs: {there})"
        return self._refused("", f"{needed} within {self._config.timeout:.0f} s", given)

    def _refused(self, key: str, expected: str, given: str, hint: str = "") -> ConfigError:
        path = ("engine", key) if key else ("engine",)
        return ConfigError(self._loaded.document.problem(path, expected, given, hint))


def _line(error: BaseException) -> str:
    """The first line of what Ray says, which may be pages."""
    return next((line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()), type(error).__name__)
