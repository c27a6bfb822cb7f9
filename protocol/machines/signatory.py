"""Signs what a member says in a round, and checks what others have signed: adverts, votes, and certificates of records.

The statements are those of `protocol.transcript` and `protocol.certificates`; the node signs and verifies them. Without
keys the same code runs with empty signatures, and a statement is as good as the name beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol, TypeVar

from protocol.certificates import is_certified, valid_votes
from protocol.messages import Message
from protocol.messages.rounds import RoundCommit
from protocol.transcript import statement

M = TypeVar("M", bound=Message)


class Signer(Protocol):
    """As much of a node as signs and verifies."""

    @property
    def run(self) -> str:
        """The run that every statement is about."""
        ...

    def attest(self, statement: bytes) -> bytes:
        """This node's signature under a statement."""
        ...

    def attested(self, name: str, statement: bytes, signature: bytes) -> bool:
        """Whether a node has signed a statement."""
        ...


class Signatory:
    """One node's side of what is signed in rounds.

    Args:
        signer: signs and verifies.
        members: the configured members of the run, whose votes count, as far as this node knows them.
    """

    def __init__(self, signer: Signer, members: Callable[[], Collection[str]]) -> None:
        self._signer, self._members = signer, members
        self._believed: dict[str, RoundCommit] = {}  # by model, the latest record that was found certified

    @property
    def run(self) -> str:
        """The run that every statement is about."""
        return self._signer.run

    @property
    def majority(self) -> int:
        """The least number of members that is more than half of them."""
        return len(self._members()) // 2 + 1

    def signed(self, message: M) -> M:
        """A message with this node's signature."""
        return message.model_copy(update={"signature": self._signer.attest(statement(self.run, message))})

    def has_signed(self, name: str, message: Message, signature: bytes) -> bool:
        """Whether a node has signed a message."""
        return self._signer.attested(name, statement(self.run, message), signature)

    def valid_votes(self, record: RoundCommit) -> dict[str, bytes]:
        """The valid votes in a record, by member."""
        return valid_votes(self.run, record, self._members(), self._signer.attested)

    def is_certified(self, record: RoundCommit) -> bool:
        """Whether a majority of the members has voted for a record."""
        if self._believed.get(record.model) == record:
            return True
        certified = is_certified(self.run, record, self._members(), self.majority, self._signer.attested)
        if certified:
            self._believed[record.model] = record
        return certified
