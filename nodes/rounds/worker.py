"""What a method does for rounds, on its device's thread.

The same work is done once: a round that opens again under another lead finds its contribution ready. Work that
nobody waits for any more ends at its next look at its watch; work for rounds that wait for nobody (`Buffer`) goes on
until a round has taken its contribution.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from fednet.api import ModelState, Participant, RoundTask, Update
from fednet.federated.state import detached_copy, model_tensors
from nodes.compute import ComputeThread, ThreadProgress
from nodes.rounds.checkpoints import Checkpoint

log = logging.getLogger(__name__)

Work = tuple[RoundTask, str]
"""A task and the digest of the state that it starts from: together they decide what comes out."""


@dataclass(frozen=True)
class LocalUpdate:
    """What a participant has made of a task, and the model that it began from."""

    update: Update
    began: Checkpoint


class RoundWorker:
    """A participant and the thread it works on.

    Args:
        participant: the side of the method that takes part in rounds.
        compute: the thread of its device.
        progress: makes a watch for one piece of work.
    """

    def __init__(
        self, participant: Participant, compute: ComputeThread, progress: Callable[[], ThreadProgress]
    ) -> None:
        self._participant = participant
        self._compute = compute
        self._progress = progress
        self._work: Work | None = None
        self._patient = False
        self._began: Checkpoint
        self._watching: ThreadProgress | None = None
        self._update: asyncio.Future[Update]

    async def initial_state(self, model: str) -> ModelState:
        """The model that everybody begins with.

        Raises:
            MethodError: there is no model of this name.
        """
        return await self._compute.run(lambda: detached_copy(self._participant.initial_state(model)))

    async def contribute(self, task: RoundTask, base: Checkpoint, *, patient: bool = False) -> LocalUpdate:
        """What this participant makes of a task.

        Args:
            task: what to do.
            base: the model to start from.
            patient: whether work on an earlier round of this model, that no round has taken yet, goes on instead.

        Raises:
            MethodError: it cannot take part.
        """
        work = (task, base.standing.outcome.digest)
        if self._work is None or _failed(self._update) or not (work == self._work or self._goes_on(task, patient)):
            self.stop()
            self._watching = progress = self._progress()
            self._work, self._patient, self._began = work, patient, base
            self._update = self._compute.run(partial(self._contribute, task, base.state, progress))
        return LocalUpdate(await asyncio.shield(self._update), self._began)

    def taken(self) -> None:
        """A round has taken the contribution: patient work begins anew with the next one."""
        if self._patient:
            self._work = None

    async def adopt(self, model: str, number: int, state: ModelState) -> None:
        """Hands over what a round has left.

        Raises:
            MethodError: it is nothing that this participant can use.
        """
        adopting = self._compute.run(
            lambda: self._participant.adopt(model, number, detached_copy(model_tensors(state)))
        )
        if self._occupied():
            adopting.add_done_callback(_log_adoption_failure)  # once the work is done
        else:
            await adopting

    def interrupt(self) -> None:
        """A round is over: its work is given up, unless it goes on for a later one."""
        if not self._occupied():
            self.stop()

    def stop(self) -> None:
        """Nobody waits for the present work any more."""
        if self._watching is not None:
            self._watching.stop()
        self._work = None

    def _goes_on(self, task: RoundTask, patient: bool) -> bool:
        return patient and self._occupied() and self._work is not None and self._work[0].model == task.model

    def _occupied(self) -> bool:
        """Whether patient work is under way that no round has taken."""
        return self._patient and self._work is not None and not _failed(self._update)

    def _contribute(self, task: RoundTask, base: ModelState, progress: ThreadProgress) -> Update:
        update = self._participant.contribute(task, detached_copy(model_tensors(base)), progress)
        return Update(detached_copy(update.state), update.weight, update.values)


def _failed(update: asyncio.Future[Update]) -> bool:
    return update.cancelled() or (update.done() and update.exception() is not None)


def _log_adoption_failure(adopting: asyncio.Future[None]) -> None:
    """Nobody waits for this adoption: if it fails, the log says so."""
    if not adopting.cancelled() and (error := adopting.exception()) is not None:
        log.warning("the outcome of a round could not be adopted: %s", error)
