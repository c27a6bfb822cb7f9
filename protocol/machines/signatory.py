"""Signs what a member says in a round, and checks what others have signed: adverts, votes, and certificates of records.

The statements are those of `protocol.transcript` and `protocol.certificates`; the node signs and verifies them. Without
keys the same code runs with empty signatures, and a statement is as good as the name beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Protocol, TypeVar

from protocol.certificates import is_certified, valid_votes
from protocol.messages import Message
from protocol.messages.rounds import RoundCommit
from protocol.transcript import statement

M = TypeVar("M", bound=Message)
A = TypeVar("A", bytes, bool)

MAX_ANSWERS = 1 << 16
"""Answers that a signer remembers; a story with more is not replayed."""


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


class RecordingSigner:
    """A signer that remembers what it has answered.

    Args:
        signer: answers.

    Attributes:
        answers: signatures, and whether others' were valid, in the order of the questions.
    """

    def __init__(self, signer: Signer) -> None:
        self._signer, self.run = signer, signer.run
        self.answers = list[bytes | bool]()

    def attest(self, statement: bytes) -> bytes:
        """This node's signature under a statement."""
        return self._noted(self._signer.attest(statement))

    def attested(self, name: str, statement: bytes, signature: bytes) -> bool:
        """Whether a node has signed a statement."""
        return self._noted(self._signer.attested(name, statement, signature))

    def _noted(self, answer: A) -> A:
        if len(self.answers) < MAX_ANSWERS:
            self.answers.append(answer)
        return answer


class ReplayingSigner:
    """Answers as was answered before.

    Args:
        run: of the statements.
        answers: of a `RecordingSigner`.
    """

    def __init__(self, run: str, answers: Iterator[bytes | bool]) -> None:
        self.run, self._answers = run, answers

    def attest(self, _statement: bytes) -> bytes:
        """The signature that was made then."""
        return bytes(self._next())

    def attested(self, _name: str, _statement: bytes, _signature: bytes) -> bool:
        """Whether the signature was valid then."""
        return bool(self._next())

    def _next(self) -> bytes | bool:
        for answer in self._answers:
            return answer
        raise ValueError("the story has more questions about signatures than answers")


class Signatory:
    """One node's side of what is signed in rounds.

    Args:
        signer: signs and verifies.
        members: the configured members of the run, whose votes count, as far as this node knows them.
    """

    def __init__(self, signer: Signer, members: Callable[[], Collection[str]]) -> None:
        self._signer, self._members = signer, members
        self._believed: dict[str, RoundCommit] = {}  # by model, the latest record that was found certified

    def recorded(self) -> Signatory:
        """The same, which remembers what it has answered."""
        return Signatory(RecordingSigner(self._signer), self._members)

    @property
    def answers(self) -> Sequence[bytes | bool]:
        """What was answered, if it is recorded."""
        return self._signer.answers if isinstance(self._signer, RecordingSigner) else ()

    @property
    def members(self) -> Collection[str]:
        """The configured members."""
        return self._members()

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
