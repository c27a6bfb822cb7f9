"""A live cluster from Python: `fednet.connect` joins as a guest and asks, for as long as the session is open.

The guest's event loop runs on a thread of its own; what a session is asked for blocks, on any thread.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from launch.config.document import YamlDocument
from launch.config.validation import validate_model
from launch.errors import ConfigError, ConfigProblem
from launch.run.endpoint import EndpointOptions
from launch.run.guest import guest_spec
from nodes.spec import NodeSpec

if TYPE_CHECKING:
    from torch import Tensor

    from fednet.api import ExchangePlan, ExchangeRecord, Progress, Question, Replies, RoundPlan, RoundRecord, Scalar
    from fednet.methods.contract import Drawer
    from fednet.reporting.samples import SampleBatch
    from nodes.driver import BlockingNetwork

LOOPBACK = "tcp://127.0.0.1:0"


class Session:
    """A guest in a live cluster; a context manager, which leaves in the end.

    Args:
        spec: the guest.
        method: the method that samples are drawn with; empty for the one that the clients name.

    Raises:
        NodeError: no client answers, or they run another method.
    """

    def __init__(self, spec: NodeSpec, method: str = "") -> None:
        self._method = method
        self._joined: Future[BlockingNetwork] = Future()
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(spec,), name=spec.name, daemon=True)
        self._thread.start()
        try:
            self._network = self._joined.result()
        except BaseException:
            self.close()
            raise

    @property
    def capabilities(self) -> dict[str, str]:
        """What the clients said of themselves, by name in sorted order."""
        return dict(self._network.capabilities)

    @property
    def methods(self) -> dict[str, str]:
        """The method that each client runs."""
        return dict(self._network.methods)

    def ask(
        self,
        question: Question | str,
        inputs: Mapping[str, Tensor] | None = None,
        *,
        to: Sequence[str] | None = None,
        **options: Scalar,
    ) -> Replies:
        """Puts a question to the clients and waits for their replies.

        Args:
            question: the whole of it, or the name of the task, which the method gives.
            inputs: tensors by name.
            to: the clients that it is for; None for all.
            options: of the task.

        Raises:
            PeerError: too few answered, or one that it is for is not there.
        """
        from fednet.api import Question as Asked  # noqa: PLC0415 - imports torch

        if isinstance(question, str):
            question = Asked(question, inputs or {}, options, to=None if to is None else tuple(to))
        return self._network.ask(question)

    def sample(self, **request: Any) -> SampleBatch:
        """Draws samples, as `fednet sample` does.

        Args:
            request: `labels`, `count`, `seed`, and the method's own settings.

        Raises:
            ConfigError: a setting cannot be used, or the method has no samples to draw.
            MethodError: the cluster cannot draw this.
        """
        from fednet.api import NullProgress  # noqa: PLC0415 - imports torch

        drawer = self._drawer()
        document = YamlDocument("sample", request, {})
        wanted, problems = validate_model(drawer.request, request, document)
        if wanted is None:
            raise ConfigError(*problems)
        return drawer.draw(self._network, wanted, NullProgress())

    def rounds(self, plan: RoundPlan | None = None, **fields: Any) -> tuple[RoundRecord, ...]:
        """Has rounds held and waits for their end.

        Args:
            plan: the rounds.
            fields: instead, the fields of a `RoundPlan`: `model`, `task` and `rounds`, `options`, and `federation` as a
                mapping of its settings. Without `key` they get a new one.

        Raises:
            MethodError: they cannot be held, and why.
        """
        from fednet.api import RoundPlan as Plan  # noqa: PLC0415 - imports torch
        from fednet.federated.config import Federation  # noqa: PLC0415

        if plan is None:
            federation = Federation.model_validate(fields.pop("federation", {}))
            plan = Plan(**{"key": _fresh_key(), "rounds": 1, "federation": federation, **fields})
        return self._network.run_rounds(plan)

    def exchange(self, plan: ExchangePlan | None = None, **fields: Any) -> ExchangeRecord:
        """Has every client offer and absorb, and waits for the end.

        Args:
            plan: the exchange.
            fields: instead, the fields of an `ExchangePlan`: `task`, `options`. Without `key` it gets a new one.

        Raises:
            MethodError: no client offers or absorbs, and why.
        """
        from fednet.api import ExchangePlan as Plan  # noqa: PLC0415 - imports torch

        return self._network.exchange(plan or Plan(**{"key": _fresh_key(), **fields}))

    def close(self) -> None:
        """Leaves; may be called twice."""
        self._leaving.set()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def _run(self, spec: NodeSpec) -> None:
        from nodes.driver import run_guest  # noqa: PLC0415 - imports torch

        def stay(network: BlockingNetwork, _progress: Progress) -> None:
            self._joined.set_result(network)
            self._leaving.wait()

        try:
            asyncio.run(run_guest(spec, stay, asyncio.Event()))
        except BaseException as error:  # it belongs to the thread that connects
            if not self._joined.done():
                self._joined.set_exception(error)

    def _drawer(self) -> Drawer:
        from fednet.methods import registry  # noqa: PLC0415 - methods are looked for when they are needed

        names = {self._method} if self._method else set(self._network.methods.values())
        name = names.pop() if len(names) == 1 else ""
        if not self._method and name not in registry.names():  # no module is imported because a peer names it
            known = ", ".join(registry.names())
            raise ConfigError(ConfigProblem("sample", f"a cluster of one of {known}", hint="Or connect with `method`."))
        drawer = registry.find(name).drawer
        if drawer is None:
            raise ConfigError(ConfigProblem("sample", hint=f"The method {name} has no samples to draw."))
        return drawer


def connect(
    address: str | Sequence[str],
    *,
    key: str | Path | None = None,
    insecure: bool = False,
    listen: str = LOOPBACK,
    method: str = "",
) -> Session:
    """Joins a live cluster as a guest.

    Args:
        address: that of any client, or of several; with keys `NAME@ADDRESS`.
        key: this guest's private file, made by `fednet keys new`.
        insecure: allow addresses beyond loopback without keys.
        listen: the address that this guest binds.
        method: the method that the cluster must run; needed to draw samples with one that is not registered.

    Raises:
        ConfigError: the address or the key cannot be used.
        NodeError: no client answers, or they run another method.
    """
    peers = (address,) if isinstance(address, str) else tuple(address)
    endpoint = EndpointOptions(listen, join=peers, key=None if key is None else Path(key), insecure=insecure)
    return Session(guest_spec(endpoint, method), method)


def _fresh_key() -> str:
    return f"session-{secrets.token_hex(8)}"
