"""A site whose training is the caller's own loop: `fednet.join` runs its node in the background of a script.

The node is a client like every other, and so are its rounds; every joined site requests the same ones, so that no
process is needed beside them.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from fednet.methods import registry
from fednet.methods.contract import TrainingSite
from launch.config.document import as_overrides
from launch.config.schema import LoadedConfig, NodeEntry, load_config
from launch.errors import ConfigError, ConfigProblem
from launch.python.launching import Config
from launch.python.run import Run
from launch.run.endpoint import EndpointOptions
from launch.run.folder import joined_folder
from launch.run.node import spec_by_hand
from nodes.spec import NodeSpec

if TYPE_CHECKING:
    from torch import nn

    from fednet.methods.contract import TrainingRound
    from nodes.peer_directory import CapabilityPublisher
    from nodes.rounds.service import RoundService
    from protocol.messages.rounds import RoundsAborted

CHECK_INTERVAL = 0.1
"""Seconds between two looks at who is there, and who has finished."""

RECORDS_TIMEOUT = 10.0
"""Seconds for which a site that has the last model waits for the records of rounds that it was not in."""

GRACE = 0.5
"""Seconds for which a loop that has failed stays, so that the leader learns why."""


class JoinedRun:
    """One site of a run; a context manager that is in the run for as long as its body lasts.

    Args:
        spec: the site's node.
        site: what the loop is to the node.

    Attributes:
        config: the method's settings.
        folder: the run's folder.
    """

    def __init__(self, spec: NodeSpec, site: TrainingSite) -> None:
        self.config: Any = spec.config
        self.folder = spec.folder
        self._spec = spec
        self._site = site
        self._thread = threading.Thread(target=self._run, name=f"{spec.name}-node", daemon=True)
        self._error: BaseException | None = None
        self._over = threading.Event()  # the last model is adopted
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self._finished: asyncio.Event

    def rounds(self, module: nn.Module) -> Iterator[TrainingRound]:
        """The rounds of the run, one after another.

        Before each the module has the model that the last round left; at the end of each the loop calls
        `done(weight=...)`. After the last one the module has the last round's model. A script that is started again
        goes on where the run is.

        Args:
            module: the model; that of the first leader is what all begin with.

        Raises:
            MethodError: the loop went on without `done`, or the rounds were given up, and why.
            NodeError: the node cannot listen, or the other sites did not come in time.
            ModelsDiffer: on leaving, this site has waited for as long as `linger` says for another one that is alive
                and still does not have the last model.
        """
        return self._site.rounds(module)

    def results(self) -> Run:
        """What the rounds have left so far."""
        return Run(self.folder)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None or not self._over.is_set():
            why = f"{type(error).__name__}: {error}" if error is not None else "it ended before the last round"
            self._site.leave(f"the training loop of {self._spec.name} left: {why}")
            self._leave(GRACE)
        try:
            self._thread.join()
        except KeyboardInterrupt:  # the others are not waited for
            self._leave(0.0)
            self._thread.join()
            raise
        if error is None and self._error is not None:
            raise self._error

    def _leave(self, grace: float) -> None:
        with suppress(RuntimeError, AttributeError):  # it has ended by itself
            self._loop.call_soon_threadsafe(self._loop.call_later, grace, self._stop.set)

    def _run(self) -> None:
        try:
            asyncio.run(self._take_part())
        except BaseException as error:  # it belongs to the loop
            self._error = error
        self._site.end(self._error)

    async def _take_part(self) -> None:
        from nodes.client import run_client  # noqa: PLC0415 - imports torch

        self._stop, self._finished = asyncio.Event(), asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._site.join(self._finish)
        await run_client(self._spec, self._stop, lambda: self._site, self._attend)  # type: ignore[arg-type,return-value]

    def _finish(self) -> None:
        self._over.set()
        self._loop.call_soon_threadsafe(self._finished.set)

    async def _attend(self, rounds: RoundService, publisher: CapabilityPublisher) -> None:
        """Requests the rounds, waits for the last one, and stays until every other site has it, too."""
        resumed = self._finished.is_set()
        await self._closed(rounds)
        publisher.show(self._site.capabilities(self._finished_sites(rounds)))
        await _within(RECORDS_TIMEOUT, lambda: rounds.store.first_missing(self._site.plan.model) is None)
        self._write(rounds)
        if not resumed and self._site.linger:
            await _within(self._site.linger, lambda: not self._unfinished(rounds))
            publisher.show(self._site.capabilities(self._finished_sites(rounds)))
            self._require_same_model(rounds)

    def _require_same_model(self, rounds: RoundService) -> None:
        """Refuses to end as if all were well where a site that is alive lacks the last model."""
        from nodes.errors import ModelsDiffer  # noqa: PLC0415

        behind = self._unfinished(rounds) & rounds.election.alive
        if behind:
            raise ModelsDiffer(dict.fromkeys(behind, (self._site.plan.model,)))

    async def _closed(self, rounds: RoundService) -> None:
        from fednet.errors import MethodError  # noqa: PLC0415 - beside what imports torch

        aborted: asyncio.Future[None] = self._loop.create_future()

        def give_up(message: RoundsAborted) -> None:
            if message.key == self._site.plan.key and not aborted.done():
                lost = "; ".join(f"{name} {reason}" for name, reason in sorted(message.lost.items()))
                aborted.set_exception(
                    MethodError(f"the rounds cannot go on: {message.reason}" + f" ({lost})" * bool(lost))
                )

        rounds.aborted = give_up
        requesting = asyncio.ensure_future(self._request(rounds))
        try:
            await asyncio.wait((aborted, requesting), return_when=asyncio.FIRST_COMPLETED)
            (aborted if aborted.done() else requesting).result()
        finally:
            requesting.cancel()

    async def _request(self, rounds: RoundService) -> None:
        """Requests the rounds of this member itself, once all sites are there, so that none misses the first one."""
        from nodes.errors import PeersMissing  # noqa: PLC0415
        from nodes.rounds.client import to_plan_message  # noqa: PLC0415 - imports torch

        plan, members = self._site.plan, set(rounds.election.members)
        ready = self._spec.timing.ready
        if not await _within(
            ready, lambda: bool(rounds.store.rounds_done(plan.key)) or rounds.election.alive == members
        ):
            missing = dict.fromkeys(members - rounds.election.alive, "not ready")
            raise PeersMissing(missing, ready)
        if rounds.store.rounds_done(plan.key) < plan.rounds:
            rounds.request(to_plan_message(plan, self._spec.name)[0], self._spec.name)
        await self._finished.wait()

    def _unfinished(self, rounds: RoundService) -> set[str]:
        """The sites of which nobody has said that they have the last model."""
        return set(rounds.election.members) - self._finished_sites(rounds)

    def _finished_sites(self, rounds: RoundService) -> set[str]:
        """The sites that have the last model: this one, and those of which any has said so.

        A site says it of the others as well, for one that comes back: it may meet only some before all of them leave.
        """
        from nodes.peer_directory import parse_statement  # noqa: PLC0415 - imports torch

        said = (self._site.finished(parse_statement(text).card) for text in rounds.capabilities.values())
        return {self._spec.name}.union(*said)

    def _write(self, rounds: RoundService) -> None:
        from nodes.rounds.client import to_round_record  # noqa: PLC0415 - imports torch

        records = [to_round_record(record) for record in rounds.store.records_of(self._site.plan.key)]
        held = rounds.store.checkpoints[self._site.plan.model].version.outcome.digest
        self._site.write_results(self.folder, records, held)


async def _within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Waits until a condition holds; False if it does not in so many seconds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - peers change by messages
                await asyncio.sleep(CHECK_INTERVAL)
    return condition()


def join(
    config: Config,
    *,
    name: str,
    out: str | Path = "runs",
    listen: str | None = None,
    advertise: str | None = None,
    peers: tuple[str, ...] = (),
    through: str | None = None,
    key: str | Path | None = None,
    insecure: bool = False,
    **overrides: Any,
) -> JoinedRun:
    """Makes this script one site of a run whose training is its own loop.

        with fednet.join("cluster.yaml", name="a1") as run:
            for r in run.rounds(model):
                loss = train(model, loader)
                r.done(weight=len(loader.dataset), loss=loss)

    Args:
        config: the path of a cluster.yaml, or its values; its method has sites with a training loop
            (docs/python.md), and each of its `nodes` a `listen` address.
        name: which of its nodes this is.
        out: where the runs' folders lie; what this site keeps of closed rounds is there, too.
        listen: the address that it binds, if not that of the configuration.
        advertise: the address that others reach it at, if another.
        peers: addresses to join through, if not those of the configuration; with keys `NAME@ADDRESS`.
        through: a relay, if nobody can connect to it.
        key: its private file, if not that of the configuration's folder.
        insecure: allow addresses beyond loopback without keys.
        overrides: keys of the configuration, see `fednet.launch`.

    Raises:
        ConfigError: the configuration, the address or the key cannot be used.
    """
    loaded = load_config(config, as_overrides(overrides))
    keyed = key is not None or loaded.cluster.security.keys is not None
    joined = peers or tuple(
        f"{other}@{_address(loaded, other)}" if keyed else _address(loaded, other)
        for other in loaded.cluster.entries
        if other != name and through is None
    )
    endpoint = EndpointOptions(
        listen or (_address(loaded, name) if through is None else "tcp://127.0.0.1:0"), advertise, joined,
        key=None if key is None else Path(key), insecure=insecure, through=through,
    )  # fmt: skip
    spec = spec_by_hand(loaded, "client", name, endpoint, Path(out))
    site = _make_site(loaded, spec)
    joined_folder(spec.folder, loaded.dump())
    return JoinedRun(spec, site)


def _make_site(loaded: LoadedConfig, spec: NodeSpec) -> TrainingSite:
    from fednet.api import SiteContext  # noqa: PLC0415 - imports torch

    context = SiteContext(spec.name, spec.index, spec.count, spec.seed, spec.device, spec.folder)
    site = registry.find(spec.method).site(spec.config, context, spec.site)
    if not isinstance(site, TrainingSite):
        place = loaded.document.place(("method",))
        expected = "a method whose sites have a training loop, see docs/python.md"
        raise ConfigError(ConfigProblem(place.where, expected, repr(spec.method), place.line, "method"))
    return site


def _address(loaded: LoadedConfig, name: str) -> str:
    """The address of a site in the configuration.

    Raises:
        ConfigError: there is none.
    """
    entries = loaded.cluster.entries
    if name not in entries:
        raise ConfigError(ConfigProblem("name", f"one of {', '.join(entries)}", repr(name)))
    entry, base = entries.get(name, NodeEntry()), loaded.cluster.bus.base_port
    if entry.listen is not None:
        return entry.listen
    if base is not None:
        return f"tcp://127.0.0.1:{base + 2 * list(entries).index(name)}"
    place = loaded.document.place(("nodes",))
    hint = "Give it `listen: tcp://HOST:PORT`, or set bus.base_port where all sites are on one machine."
    raise ConfigError(ConfigProblem(place.where, "an address", "", place.line, f"nodes.{name}.listen", hint))
