"""Catching up: brings this member's models, and the records of their rounds, to what other members have.

Whoever has a version can be asked for it: the leader, the round's contributors, every other member that is alive. What
is being fetched gives way to a later version as soon as one is known; a version that nobody has any more is tried again
until then. Says once, and on `progress/`, that this member is behind. Knows nothing of who leads and what a round is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from fednet.errors import MethodError
from nodes.errors import PeerError
from nodes.rounds.context import RoundContext
from protocol.election import Election
from protocol.messages import ModelAdopted, ProgressReport
from protocol.messages.election import RecordRequest
from protocol.messages.rounds import RoundCommit
from protocol.rounds import round_message

log = logging.getLogger(__name__)

RETRY = 1.0
"""Seconds until a member that could not fetch a model tries again, and for which it waits for a missing record."""


class CatchUp:
    """Brings a member to the latest versions that it has heard of.

    Args:
        election: knows the members that are alive.
        report: publishes how far behind this member is.

    Attributes:
        record_received: to be set when a record that was asked for has come.
    """

    def __init__(self, election: Election, report: Callable[[ProgressReport], None]) -> None:
        self.record_received = asyncio.Event()
        self._election, self._report = election, report
        self._targets: dict[str, tuple[RoundCommit, bool]] = {}  # by model; whether its leader waits
        self._warned = False

    def aim(self, records: Mapping[str, RoundCommit], *, is_awaited: bool = False) -> bool:
        """Names the outcomes that are to be reached.

        Args:
            records: certified, by model.
            is_awaited: whether the leader of these rounds waits until they are adopted here.

        Returns:
            Whether that is more than what was to be reached already.
        """
        is_more = False
        for model, record in records.items():
            known = self._targets.get(model)
            if known is None or record.number > known[0].number or (is_awaited and record.number == known[0].number):
                self._targets[model], is_more = (record, is_awaited), True
        return is_more

    async def run(self, context: RoundContext, leader: str) -> None:
        """Reaches these outcomes, then asks for the records that are missing here.

        Args:
            context: what this member works with.
            leader: is asked first, and told.
        """
        try:
            for model, (record, is_awaited) in sorted(self._targets.items()):
                number = (await context.checkpoint(model)).version.number
                if number < record.number:
                    self._tell_progress(number, record.number)
                    await self.reach(context, record, (leader, *record.weights))
                    self._tell_progress(record.number, record.number)
                if is_awaited:
                    context.tell(leader, round_message(ModelAdopted, record))
            for model in sorted(self._targets):
                await self.recall(context, model)
        except MethodError as error:
            log.warning("%s cannot catch up: %s", context.name, error)
        self._targets.clear()

    async def reach(self, context: RoundContext, record: RoundCommit, holders: Sequence[str] = ()) -> None:
        """Brings a model to the outcome of a round, as soon as one of the other members can be asked.

        Raises:
            MethodError: the participant cannot use it.
        """
        while True:
            others = sorted(self._election.alive - {context.name})
            try:
                await context.reach(record, (*holders, *others), self._election.term)
            except PeerError as error:
                log.log(logging.DEBUG if self._warned else logging.WARNING,
                        "%s is behind and cannot fetch round %d of %s yet: %s",
                        context.name, record.number, record.model, error)  # fmt: skip
                self._warned = True
                await asyncio.sleep(RETRY)
            else:
                self._warned = False
                return

    async def recall(self, context: RoundContext, model: str) -> None:
        """Asks one member after another for records that are missing here."""
        store = context.store
        for name in sorted(self._election.alive - {context.name}):
            while (missing := store.first_missing(model)) is not None:
                context.tell(name, RecordRequest(model=model, after=missing - 1))
                with suppress(TimeoutError):
                    async with asyncio.timeout(RETRY):
                        while store.first_missing(model) == missing:
                            self.record_received.clear()
                            await self.record_received.wait()
                if store.first_missing(model) == missing:
                    break

    def _tell_progress(self, number: int, of: int) -> None:
        self._report(ProgressReport(phase="catching up", done=number, total=of, values={}, note=""))
