"""What a member does from its election until it is deposed: it catches up, and holds one programme after another.

First it reaches the furthest of those who elected it, asks for the records that it lacks, and settles what an earlier
lead may have closed. Then it holds what is ordered, in the order in which it came. Refuses to know who is elected
(`protocol.election`) and how a round is held (`nodes.rounds.coordinator`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from pydantic import ValidationError

from fednet.errors import MethodError
from nodes.errors import PeerError
from nodes.rounds.attempt import RoundImpossible, abort_message
from nodes.rounds.context import RoundContext
from nodes.rounds.conversion import federation_from, version_after
from nodes.rounds.coordinator import RoundCoordinator
from protocol.election import Election, ElectionWon
from protocol.messages.rounds import (
    AcceptedVote,
    LeaderAnnouncement,
    ModelVersion,
    RecordRequest,
    RoundCommit,
    RoundPlanMessage,
)

log = logging.getLogger(__name__)

RETRY_INTERVAL = 1.0
"""Seconds until a lead that could not fetch what it needs tries again, and for which it waits for records."""

MAX_REQUESTS = 64
"""Programmes that wait at a member; a further one is refused."""


class RequestQueue:
    """The programmes that wait, in the order in which they came."""

    def __init__(self) -> None:
        self.plans: dict[str, RoundPlanMessage] = {}
        self.came = asyncio.Event()

    def add(self, plan: RoundPlanMessage) -> bool:
        """A programme is ordered; False if too many wait already."""
        if plan.key not in self.plans and len(self.plans) >= MAX_REQUESTS:
            return False
        self.plans.setdefault(plan.key, plan)
        self.came.set()
        return True

    def remove(self, key: str) -> None:
        """A programme is over."""
        self.plans.pop(key, None)


@dataclass
class Leadership:
    """One member's time as lead.

    Attributes:
        elected: by whom, and from where it leads.
        means: what it works with.
        council: who is there.
        chair: holds rounds.
        orders: what is to be held.
        seated: waits until this member has left its own seat.
        recalled: to be set when a record has come that was asked for.
    """

    elected: ElectionWon
    means: RoundContext
    election: Election
    coordinator: RoundCoordinator
    requests: RequestQueue
    participation_ended: Callable[[], Awaitable[None]]
    recalled: asyncio.Event = field(default_factory=asyncio.Event)

    async def lead(self) -> None:
        """Leads until it is cancelled.

        Raises:
            MethodError: the participant cannot use what its peers have.
        """
        await self.participation_ended()
        for model, (standing, holder) in self.elected.versions.items():
            if (await self.means.known(model)).standing.number < standing.number:
                await self._reach(model, standing, holder)
        for model in list(self.means.models.kept):
            await self._recall(model)
        for voted in self.elected.accepted.values():
            await self._settle(voted)
        while True:
            self.requests.came.clear()
            for plan in list(self.requests.plans.values()):
                await self._programme(plan)
            said = LeaderAnnouncement(
                term=self.elected.term, attempt=self.coordinator.attempts, versions=self.means.models.standings()
            )
            self.means.say(said)
            await self.requests.came.wait()

    async def _programme(self, plan: RoundPlanMessage) -> None:
        """Holds the rounds of a programme that are still to be held."""
        models = self.means.models
        try:
            federation_from(plan)
            await self.means.known(plan.model)
            for index in range(models.done(plan.key) + 1, plan.rounds + 1):
                commit = await self.coordinator.hold(plan, index, models.standings())
                await self._adopted(commit)
                self.means.tell(plan.requester, commit)
        except RoundImpossible as hopeless:
            self._abandon(plan, hopeless)
        except (MethodError, ValidationError) as error:
            self._abandon(plan, RoundImpossible(str(error), {}))
        self.requests.remove(plan.key)

    def _abandon(self, plan: RoundPlanMessage, hopeless: RoundImpossible) -> None:
        said = abort_message(self.election.term, plan, hopeless)
        self.means.say(said)
        self.means.tell(plan.requester, said)

    async def _settle(self, voted: AcceptedVote) -> None:
        """Closes the round that an earlier lead may have closed, with the same outcome."""
        model, record = voted.record.model, voted.record
        if (await self.means.known(model)).standing.number + 1 != record.number:
            return
        log.info("%s settles on what round %d of %s may have left", self.means.name, record.number, model)
        try:
            standings = self.means.models.standings()
            await self._adopted(await self.coordinator.hold(voted.plan, record.index, standings, record))
        except RoundImpossible as hopeless:
            log.warning("round %d of %s is held again: %s", record.number, model, hopeless)

    async def _adopted(self, commit: RoundCommit) -> None:
        """Waits until this member too stands where the round has left the others."""
        await self.participation_ended()
        await self._reach(commit.model, version_after(commit), *sorted(commit.weights), record=commit)

    async def _reach(
        self, model: str, standing: ModelVersion, *holders: str, record: RoundCommit | None = None
    ) -> None:
        """Reaches what others have, as soon as one of them can be asked."""
        while True:
            others = sorted(self.election.alive - {self.means.name})
            try:
                await self.means.reach(model, standing, (*holders, *others), self.elected.term, record)
                return
            except PeerError as error:
                log.warning("%s cannot go on yet: %s", self.means.name, error)
                await asyncio.sleep(RETRY_INTERVAL)

    async def _recall(self, model: str) -> None:
        """Asks one member after another for records that are missing here."""
        models = self.means.models
        for name in sorted(self.election.alive - {self.means.name}):
            while (missing := models.missing(model)) is not None:
                self.means.tell(name, RecordRequest(model=model, after=missing - 1))
                await self._learned(model, missing)
                if models.missing(model) == missing:
                    break

    async def _learned(self, model: str, missing: int) -> None:
        """Waits for a record, for a while."""
        with suppress(TimeoutError):
            async with asyncio.timeout(RETRY_INTERVAL):
                while self.means.models.missing(model) == missing:
                    self.recalled.clear()
                    await self.recalled.wait()
