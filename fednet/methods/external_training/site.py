"""A site whose training is somebody's own loop: rounds are handed over between the node's threads and the loop's.

The node calls `LoopSite` as it calls any method's site. `contribute` puts a `LoopRound` into a queue and waits for
the loop to be done with it; the loop takes one after another until the last round's model has been adopted.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import SupportsFloat

from torch import Tensor, nn

from fednet.api import ModelState, Progress, Question, RoundPlan, RoundRecord, RoundTask, SiteContext, Update
from fednet.errors import MethodError
from fednet.federated.state import detached_copy, digest
from fednet.methods.external_training.config import ExternalTrainingConfig
from fednet.methods.external_training.protection import ClientProtection
from fednet.methods.external_training.results import MODEL, TRAIN, round_plan, write_results
from fednet.privacy.client_level import require_no_statistics

CHECK_INTERVAL = 0.1
"""Seconds between two looks whether a round still waits for the loop."""

DECLINE_TIMEOUT = 10.0
"""Seconds for which a loop that fails waits at most for its node to take in why, which it does at once."""


class LoopRound:
    """One round, as a training loop sees it.

    Attributes:
        number: which round, from 1.
        rounds: of how many.
        base: the model that the round starts from; it has been loaded into the loop's module.
    """

    def __init__(self, number: int, rounds: int, base: ModelState) -> None:
        self.number, self.rounds, self.base = number, rounds, base
        self._answered = threading.Event()  # nobody waits for it any more
        self._module: nn.Module
        self._outcome: SimpleQueue[Update | MethodError] = SimpleQueue()
        self._over = False

    def __repr__(self) -> str:
        return f"round {self.number} of {self.rounds}"

    @property
    def over(self) -> bool:
        """Whether the loop is done with it, or nobody waits for it any more."""
        return self._over or self._answered.is_set()

    def done(self, *, weight: float, **values: SupportsFloat) -> None:
        """Contributes what the module is now.

        Args:
            weight: how much it counts, > 0; usually the number of examples.
            values: what was measured, for the record of the round; a tensor of one element will do.

        Raises:
            MethodError: it was called before for this round.
        """
        if self._over:
            raise MethodError(f"{self}: done was called twice")
        measured = {name: float(value) for name, value in values.items()}
        self._finish(Update(module_state(self._module), float(weight), measured))

    def fail(self, reason: str) -> None:
        """Declines the round; returns once the node has taken that in."""
        if not self._over:
            self._finish(MethodError(reason))
        self._answered.wait(DECLINE_TIMEOUT)

    def begin(self, module: nn.Module) -> None:
        """Loads the round's model into the module."""
        module.load_state_dict(dict(self.base))
        self._module = module

    def outcome(self, progress: Progress) -> Update:
        """Waits for the loop.

        Raises:
            Stopped: nobody waits for the round any more.
            MethodError: the loop declines it.
        """
        try:
            while True:
                progress.report(f"round {self.number}", self.number - 1, self.rounds)
                try:
                    outcome = self._outcome.get(timeout=CHECK_INTERVAL)
                except Empty:
                    continue
                if isinstance(outcome, MethodError):
                    raise outcome
                return outcome
        finally:
            self._answered.set()

    def _finish(self, outcome: Update | MethodError) -> None:
        self._over = True
        self._outcome.put(outcome)


class LoopSite:
    """The side of the method that a training loop is (a `Responder` and a `Participant`).

    Args:
        config: of the run.
        context: the site's environment.

    Attributes:
        plan: the rounds, which every site requests.
        linger: see `ExternalTrainingConfig`.

    Raises:
        PrivacyError: see `ClientProtection`.
    """

    def __init__(self, config: ExternalTrainingConfig, context: SiteContext) -> None:
        self.name = context.name
        self.plan: RoundPlan = round_plan(config)
        self.linger = config.linger
        self._config = config
        self._rounds = config.rounds
        self._protection = None if config.privacy is None else ClientProtection(config.privacy, config, context)
        self._finished: Callable[[], None] | None = None
        self._turns: SimpleQueue[LoopRound | BaseException | None] = SimpleQueue()
        self._model = threading.Event()
        self._initial: ModelState = {}
        self._adopted: ModelState = {}
        self._left = ""
        self._turn: LoopRound | None = None
        self._last: tuple[int, str, Update] | None = None

    def join(self, finished: Callable[[], None]) -> None:
        """The loop will come; `finished` is called on the device's thread once the last model has been adopted."""
        self._finished = finished

    def rounds(self, module: nn.Module) -> Iterator[LoopRound]:
        """The rounds, one after another, on the loop's own thread; in the end the module has the last model.

        Raises:
            MethodError: the loop went on without `done`, or the rounds were given up.
            NodeError: the node could not go on.
            PrivacyError: the noise of `privacy` would spoil this model.
        """
        if self._protection is not None:
            require_no_statistics(module_state(module))
        if self._model.is_set():
            raise MethodError("the rounds of a run are held once: join it again for more")
        self._initial = module_state(module)
        self._model.set()
        while (turn := self._turns.get()) is not None:
            if isinstance(turn, BaseException):
                raise turn
            if turn.over:
                continue
            turn.begin(module)
            self._turn = turn
            yield turn
            if not turn.over:
                raise MethodError(f"{turn}: call done(weight=...) before the loop goes on to the next round")
        module.load_state_dict(dict(self._adopted or self._initial))

    def leave(self, reason: str) -> None:
        """The loop takes no further turn, and declines the present one."""
        self._left = reason
        self._model.set()
        if self._turn is not None:
            self._turn.fail(reason)

    def end(self, error: BaseException | None = None) -> None:
        """There are no further turns; `error` is raised in the loop."""
        self._turns.put(error)

    def prepare(self, progress: Progress) -> str:
        """Waits until the loop has shown its module; a site is ready then.

        Raises:
            MethodError: no loop will come, since the site was started as any other.
        """
        if self._finished is None:
            raise MethodError(
                f"{self.name} is a training script: start yours, with fednet.join(CONFIG, name={self.name!r})"
            )
        while not self._model.wait(CHECK_INTERVAL):
            progress.report("waiting for the training loop", 0, 1)
        return self.capabilities(())

    def answer(self, question: Question) -> Mapping[str, Tensor]:
        """Answers nothing.

        Raises:
            MethodError: always.
        """
        raise MethodError(f"{self.name} is a training script and answers no questions, such as {question.task[:40]!r}")

    def initial_state(self, model: str) -> ModelState:
        """The module as the loop made it; all begin with that of the first leader.

        Raises:
            MethodError: there is no such model.
        """
        if model != MODEL:
            raise MethodError(f"unknown model {model[:40]!r}; expected {MODEL!r}")
        return self._initial

    def contribute(self, task: RoundTask, base: ModelState, progress: Progress) -> Update:
        """Hands the round to the loop and waits for it; a round that is held again is not trained again.

        Raises:
            MethodError: the loop has ended, or declines.
        """
        self.initial_state(task.model)
        if task.task != TRAIN:
            raise MethodError(f"unknown task {task.task[:40]!r}; expected {TRAIN!r}")
        if self._left:
            raise MethodError(self._left)
        work = task.number, digest(base)
        if self._last is None or self._last[:2] != work:
            self._last = (*work, self._contribution(LoopRound(task.number, self._rounds, base), work[1], progress))
        return self._last[2]

    def _contribution(self, turn: LoopRound, base: str, progress: Progress) -> Update:
        """What may leave of a round; `base` is the digest of the model that it starts from."""

        def train() -> Update:
            self._turns.put(turn)
            return turn.outcome(progress)

        if self._protection is None:
            return train()
        return self._protection.contribution(f"round {turn.number} from {base}", turn.base, train)

    def adopt(self, model: str, number: int, state: ModelState) -> None:
        """Takes over what a round has closed with; the last one ends the loop."""
        self._adopted = state
        if number >= self._rounds:
            self.end()
            if self._finished is not None:
                self._finished()

    def write_results(self, folder: Path, records: Sequence[RoundRecord], digest: str) -> None:
        """Writes what the rounds that have closed leave to read; `digest` names the model that this site holds."""
        own = {} if self._protection is None else {self.name: self._protection.spent()}
        write_results(folder, self._config, records, digest, own)

    def capabilities(self, finished: Collection[str]) -> str:
        """What a site says: which sites have the last round's model, as far as it knows."""
        return json.dumps({"finished": sorted(finished)})

    def finished(self, capabilities: str) -> frozenset[str]:
        """The sites that have it by what a site says."""
        try:
            values = json.loads(capabilities)
        except (ValueError, RecursionError):
            return frozenset()
        named = values.get("finished") if isinstance(values, dict) else None
        return frozenset(name for name in named if isinstance(name, str)) if isinstance(named, list) else frozenset()


def module_state(module: nn.Module) -> ModelState:
    """A copy of a module's parameters and buffers, on the CPU."""
    return detached_copy(module.state_dict())
