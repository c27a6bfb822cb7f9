"""What a method does for rounds, on its device's thread.

The same work is done once: a round that opens again under another lead finds its contribution ready. Work that
nobody waits for any more ends at its next look at its watch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from fednet.conversations import Participant, State, Task, Update
from fednet.federated.state import bare, frozen
from nodes.compute import Compute, ThreadWatch

Work = tuple[Task, str]
"""A task and the digest of the state that it starts from: together they decide what comes out."""


class Bench:
    """A participant and the thread it works on.

    Args:
        participant: the side of the method that takes part in rounds.
        compute: the thread of its device.
        watch: makes a watch for one piece of work.
    """

    def __init__(self, participant: Participant, compute: Compute, watch: Callable[[], ThreadWatch]) -> None:
        self._participant = participant
        self._compute = compute
        self._watch = watch
        self._work: Work | None = None
        self._watching: ThreadWatch | None = None
        self._update: asyncio.Future[Update]

    async def begin(self, model: str) -> State:
        """The model that everybody begins with.

        Raises:
            MethodError: there is no model of this name.
        """
        return await self._compute.run(lambda: frozen(self._participant.begin(model)))

    async def contribute(self, task: Task, base: State, digest: str) -> Update:
        """What this participant makes of a task, starting from the state of this digest.

        Raises:
            MethodError: it cannot take part.
        """
        if self._work != (task, digest) or _failed(self._update):
            self.stop()
            self._watching = watch = self._watch()
            self._work = (task, digest)
            self._update = self._compute.run(partial(self._contribute, task, base, watch))
        return await asyncio.shield(self._update)

    async def adopt(self, model: str, number: int, state: State) -> None:
        """Hands over what a round has left.

        Raises:
            MethodError: it is nothing that this participant can use.
        """
        await self._compute.run(lambda: self._participant.adopt(model, number, frozen(bare(state))))

    def stop(self) -> None:
        """Nobody waits for the present work any more."""
        if self._watching is not None:
            self._watching.stop()
        self._work = None

    def _contribute(self, task: Task, base: State, watch: ThreadWatch) -> Update:
        update = self._participant.contribute(task, frozen(bare(base)), watch)
        return Update(frozen(update.state), update.weight, update.values)


def _failed(update: asyncio.Future[Update]) -> bool:
    return update.cancelled() or (update.done() and update.exception() is not None)
