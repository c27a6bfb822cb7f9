"""What liars can compute of honest contributions to secure sums, from all that they hold together: exact, not guessed.

Every masked vector is a sum of unknowns: the contribution, its own mask, a mask for every pair. A mask is known where a
liar is the other of the pair, or as many shares of its secret as the threshold are in the liars' hands: those dealt to
them, and those that honest members have revealed. What is left is linear, and a contribution can be computed if and
only if its unit vector is in the span of the masked vectors. Contributions of one member to one base are one unknown,
whatever the attempt. One that is rounded away (its weight is nothing beside the largest) is none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fednet.privacy.secure_sum import SecureSumParty
from fednet.privacy.secure_sum_setup import Kind
from fednet.privacy.unmasking import mask_sign, own_key, pair_key

PRIME = 2**61 - 1
LEAST = 2.0**-20
"""A weight, relative to the largest one, with which a contribution is more than its rounding."""

Unknown = tuple[Any, ...]


@dataclass(frozen=True)
class Masked:
    """A masked vector that an honest member has made, and serves to whoever asks.

    Attributes:
        party: has masked it.
        contribution: which contribution it is: of one member to one base.
        weights: of the sharers, as its member knows them.
    """

    party: SecureSumParty
    contribution: Unknown
    weights: Mapping[str, float]


def recoverable(dealer: SecureSumParty, kind: Kind, parties: Iterable[SecureSumParty], liars: Collection[str]) -> bool:
    """Whether as many shares of an honest member's secret as the threshold are dealt to liars, or revealed."""
    setup = dealer._parties
    assert setup is not None
    shares = set(liars) & setup.keys.keys()
    for each in parties:
        agreed = each._agreement
        same = each._parties is not None and each._parties.digest == setup.digest
        if same and each._revealed and agreed is not None and agreed.kind(dealer.name) == kind:
            shares.add(each.name)
    return len(shares) >= dealer.parameters.threshold


def equation(masked: Masked, parties: Sequence[SecureSumParty], liars: Collection[str]) -> dict[Unknown, int]:
    """The coefficients of a masked vector's unknowns."""
    party, setup = masked.party, masked.party._parties
    assert setup is not None
    weight = masked.weights[party.name]
    heard = weight >= LEAST * max(masked.weights.values())
    found: dict[Unknown, int] = {masked.contribution: round(weight) if heard else 0}
    if not recoverable(party, "seed", parties, liars):
        found["own", own_key(party._secrets.seed, party.name, setup)] = 1
    if recoverable(party, "key", parties, liars):
        return found
    open_keys = {
        each.name
        for each in parties
        if each._parties is not None and each._parties.digest == setup.digest
        and recoverable(each, "key", parties, liars)
    }  # fmt: skip
    for other in set(party.sharers) - {party.name, *liars, *open_keys}:
        key = pair_key(party._secrets.mask, party.name, other, setup)
        found["pair", key] = mask_sign(party.name, other)
    return found


def exposed(vectors: Sequence[Masked], liars: Collection[str]) -> set[Unknown]:
    """The contributions that liars can compute."""
    parties = [each.party for each in vectors]
    rows = [equation(each, parties, liars) for each in vectors]
    contributions = {each.contribution for each in vectors}
    columns = [
        *sorted({name for row in rows for name in row} - contributions, key=repr),
        *sorted(contributions, key=repr),
    ]
    reduced = _reduced([[row.get(column, 0) % PRIME for column in columns] for row in rows])
    found = set()
    for row in reduced:
        places = [place for place, value in enumerate(row) if value]
        if len(places) == 1 and columns[places[0]] in contributions:
            found.add(columns[places[0]])
    return found


def _reduced(rows: list[list[int]]) -> list[list[int]]:
    """The reduced row echelon form modulo a prime."""
    done, width = 0, len(rows[0]) if rows else 0
    for column in range(width):
        pivot = next((place for place in range(done, len(rows)) if rows[place][column]), None)
        if pivot is None:
            continue
        rows[done], rows[pivot] = rows[pivot], rows[done]
        inverse = pow(rows[done][column], -1, PRIME)
        rows[done] = [value * inverse % PRIME for value in rows[done]]
        for place, row in enumerate(rows):
            if place != done and row[column]:
                factor = row[column]
                rows[place] = [(mine - factor * its) % PRIME for mine, its in zip(row, rows[done], strict=True)]
        done += 1
    return rows[:done]
