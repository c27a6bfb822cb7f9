"""A method's participant and the device's thread that it works on.

The same work is done once: a round that is opened again by another leader finds its contribution ready. Work that no
round waits for is stopped at its next progress report; for rounds that close with the first contributions (`Buffer`)
it goes on until a round has counted it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from fednet.api import ModelState, Participant, RoundTask, Update
from fednet.errors import ModelError
from fednet.federated.packed_state import PackedState
from fednet.federated.state import detached_copy, model_tensors, require_finite, require_like
from fednet.federated.state_storage import WritableStorage
from nodes.compute import ComputeThread, ThreadProgress
from nodes.rounds.checkpoints import Checkpoint

log = logging.getLogger(__name__)

WorkKey = tuple[RoundTask, str]
"""A task and the digest of the state that it starts from: together they determine the update."""


@dataclass(frozen=True)
class LocalUpdate:
    """A participant's update, and the model that it started from.

    Attributes:
        update: its state lies in `packed`.
        packed: the state.
        base: the model.
    """

    update: Update
    packed: PackedState
    base: Checkpoint


class InvalidUpdate(ModelError):
    """A participant's update has other names or shapes than the model, or is not finite."""


def require_valid(state: ModelState, base: ModelState) -> None:
    """Refuses an update where peers would refuse it, before anything of it leaves this member.

    Raises:
        InvalidUpdate: it has other names or shapes than the model, or is not finite.
    """
    try:
        require_like(state, base, "the contribution")
        require_finite(state, "the contribution")
    except ModelError as error:
        raise InvalidUpdate(str(error)) from error


class RoundWorker:
    """A participant and the thread that it works on.

    Args:
        participant: the side of the method that takes part in rounds.
        compute: the thread of its device.
        progress: makes the progress of one contribution.
        allocate: makes room for a state of so many bytes.
    """

    def __init__(
        self,
        participant: Participant,
        compute: ComputeThread,
        progress: Callable[[], ThreadProgress],
        allocate: Callable[[int], WritableStorage],
    ) -> None:
        self._participant = participant
        self._compute, self._allocate = compute, allocate
        self._new_progress = progress
        self._key: WorkKey | None = None
        self._buffered = False
        self._progress: ThreadProgress | None = None
        self._update: asyncio.Future[LocalUpdate]
        self._adopting: dict[str, int] = {}  # by model, the latest round whose outcome the participant has not taken

    async def initial_state(self, model: str) -> PackedState:
        """The state that a model begins with at every member.

        Raises:
            MethodError: there is no model of this name.
        """
        return await self._compute.run(lambda: PackedState.of(self._participant.initial_state(model), self._allocate))

    async def contribute(self, task: RoundTask, base: Checkpoint, *, buffered: bool = False) -> LocalUpdate:
        """The participant's update for a task.

        Args:
            task: what to do.
            base: the model to start from.
            buffered: whether work for an earlier round of this model that no round has counted yet goes on instead.

        Raises:
            InvalidUpdate: peers would refuse it.
            MethodError: it cannot take part.
        """
        key = (task, base.version.outcome.digest)
        if self._key is None or _failed(self._update) or not (key == self._key or self._continues(task, buffered)):
            self.stop()
            self._progress = progress = self._new_progress()
            self._key, self._buffered = key, buffered
            self._update = self._compute.run(partial(self._contribute, task, base, progress))
        return await asyncio.shield(self._update)

    def counted(self) -> None:
        """A round has counted the contribution: buffered work starts again with the next round."""
        if self._buffered:
            self._key = None

    async def adopt(self, model: str, number: int, state: ModelState) -> None:
        """Hands the outcome of a round to the participant.

        Raises:
            MethodError: the participant cannot use it.
        """
        self._adopting[model] = number
        adopting = self._compute.run(
            lambda: self._participant.adopt(model, number, detached_copy(model_tensors(state)))
        )
        adopting.add_done_callback(partial(self._adopted, model, number))
        if not self._busy():  # otherwise once the work is done
            await adopting

    def holds(self, model: str) -> bool:
        """Whether the participant has taken every outcome of a model that it was handed."""
        return model not in self._adopting

    def _adopted(self, model: str, number: int, adopting: asyncio.Future[None]) -> None:
        if adopting.cancelled():
            return
        if (error := adopting.exception()) is not None:
            log.warning("the outcome of round %d of %s could not be adopted: %s", number, model, error)
        elif self._adopting.get(model) == number:
            del self._adopting[model]

    def interrupt(self) -> None:
        """A round is over: its work stops, unless it goes on for a later round."""
        if not self._busy():
            self.stop()

    def stop(self) -> None:
        """Stops the present work."""
        if self._progress is not None:
            self._progress.stop()
        self._key = None

    def _continues(self, task: RoundTask, buffered: bool) -> bool:
        return buffered and self._busy() and self._key is not None and self._key[0].model == task.model

    def _busy(self) -> bool:
        """Whether buffered work is under way that no round has counted."""
        return self._buffered and self._key is not None and not _failed(self._update)

    def _contribute(self, task: RoundTask, base: Checkpoint, progress: ThreadProgress) -> LocalUpdate:
        model = model_tensors(base.state)
        update = self._participant.contribute(task, detached_copy(model), progress)
        require_valid(update.state, model)
        packed = PackedState.of(update.state, self._allocate)
        return LocalUpdate(Update(packed.state, update.weight, update.values), packed, base)


def _failed(update: asyncio.Future[LocalUpdate]) -> bool:
    return update.cancelled() or (update.done() and update.exception() is not None)
