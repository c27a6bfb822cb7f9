"""What leaves a site: every question, value of a round, offer and capability, with what it tells of private data.

A method declares all of it (`Method.disclosures`); docs/what-leaves-a-site.md is the table of the declarations. A
question that is not declared is not answered, and one that is computed from private data for whoever asks is off
unless the site's own configuration permits it. Knows no method. Imports neither torch
nor pydantic, since the command line reads methods.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Channel = Literal["announcement", "capabilities", "progress", "question", "round", "exchange", "refusal"]
"""What carries it: see ARCHITECTURE.md for the conversations."""

Exposure = Literal["none", "counts", "noisy", "released", "model", "private"]
"""What it tells of private data; EXPOSURES says what each means."""

EXPOSURES: Mapping[Exposure, str] = {
    "none": "nothing that depends on private data",
    "counts": "how many examples there are, and of which classes, which counts as public",
    "noisy": "what noise protects; its epsilon is in the site's ledger before it leaves",
    "released": "computed from what has been released and from what the asker sent; costs nothing more",
    "model": "computed with a model that was trained on private data without noise: no epsilon covers it",
    "private": "computed from private examples for whoever asks, without noise: off unless the site permits it",
}


@dataclass(frozen=True)
class Disclosure:
    """One thing that leaves a site.

    Attributes:
        channel: what carries it.
        name: of the question (`Question.task`), the task of a round or an exchange, or the fields.
        exposure: what it tells of private data.
        tells: what it is, in a sentence.
        epsilon: which epsilon covers it; empty for none.
        permission: the key of the configuration that permits it; exactly where the exposure is `private`.

    Raises:
        ValueError: the exposure and the permission, or the epsilon, do not fit each other.
    """

    channel: Channel
    name: str
    exposure: Exposure
    tells: str
    epsilon: str = ""
    permission: str = ""

    def __post_init__(self) -> None:
        if (self.exposure == "private") != bool(self.permission):
            raise ValueError(f"{self.name}: a disclosure of private data, and no other, names what permits it")
        if (self.exposure == "noisy") != bool(self.epsilon):
            raise ValueError(f"{self.name}: a noisy disclosure, and no other, names the epsilon that covers it")


COMMON: tuple[Disclosure, ...] = (
    Disclosure("announcement", "classes, shape, own", "counts", "the names of the classes, the shape of a picture"),
    Disclosure(
        "progress", "phase, done, total", "none", "how far a long computation is, and its training loss if open"
    ),
    Disclosure(
        "refusal", "reason", "counts", "why a question or a round is refused: options, names, numbers of pictures"
    ),
    Disclosure("round", "digest, vote, leaves", "released", "hashes of a contribution and of the result, signed"),
)
"""What leaves every site, whatever its method."""


def question_names(disclosures: Iterable[Disclosure]) -> frozenset[str]:
    """The questions that are declared."""
    return frozenset(one.name for one in disclosures if one.channel == "question")


def disclosure_table(disclosures: Iterable[Disclosure]) -> str:
    """The rows of a method in docs/what-leaves-a-site.md, as a Markdown table."""
    rows = [
        "| what | carried by | tells of private data | which is | epsilon | permitted by |",
        "|---|---|---|---|---|---|",
    ]
    for one in disclosures:
        permission = f"`{one.permission}`" if one.permission else "-"
        cells = (f"`{one.name}`", one.channel, one.tells, one.exposure, one.epsilon or "-", permission)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)
