"""What stands between a site's pictures and the others: the ledger, the noise, and what is told of both.

One guard a site. It grants steps by reserving them in the ledger first; the sums of a training's steps are noisy under
its terms, or, at client level, the change that leaves. What was granted is released before anything that came of it is
told, and until then nothing is. Knows no training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fednet.api import ModelState, SiteContext
from fednet.errors import PrivacyError
from fednet.methods.private_gan.config import PrivateGanConfig
from fednet.methods.private_gan.mechanism import privacy_mechanism
from fednet.methods.private_gan.messages import PrivacyStatement
from fednet.methods.private_gan.training import GradientProtection
from fednet.privacy.accounting import epsilon
from fednet.privacy.client_level import clip_and_noise, clip_change
from fednet.privacy.ledger import LedgerEntry, PrivacyLedger
from fednet.privacy.noise import NoiseSource

LEDGER_FOLDER = "privacy"


@dataclass(frozen=True)
class ReleaseReservation:
    """What a site may do under a key.

    Attributes:
        steps: of training that it may take.
        entry: in the ledger; None where nothing is accounted for.
    """

    steps: int
    entry: LedgerEntry | None


class PrivacyGuard:
    """The privacy of one site.

    Args:
        config: the run's.
        site: whose pictures are guarded.

    Attributes:
        terms: the mechanism; None where nothing is protected.

    Raises:
        PrivacyError: the ledger is damaged or of another kind, the budget buys nothing, or no noise meets the target.
    """

    def __init__(self, config: PrivateGanConfig, site: SiteContext) -> None:
        self._config, self._site = config, site
        self.terms = privacy_mechanism(config)
        kept = config.privacy.ledger
        place = (site.folder / LEDGER_FOLDER if kept is None else kept.expanduser()) / f"{site.name}.json"
        self._ledger: PrivacyLedger | None = None if self.terms is None else self.terms.ledger(place)

    @property
    def private(self) -> bool:
        """Whether what leaves the site is protected by noise that nobody knows."""
        return self.terms is not None and not self.terms.seeded and self._book().private

    def grant(self, key: str, steps: int) -> ReleaseReservation:
        """How many of these steps may be taken; they are in the ledger when this returns, and count as spent.

        Raises:
            PrivacyError: the budget is spent.
        """
        if self.terms is None:
            return ReleaseReservation(steps, None)
        wanted = self.terms.expense(1 if self.terms.unit == "client" else steps)
        entry = self._book().reserve(key, wanted, self.terms.budget, private=not self.terms.seeded)
        return ReleaseReservation(steps if self.terms.unit == "client" else entry.steps, entry)

    def release(self, entry: LedgerEntry | None) -> None:
        """What came of a grant may be told once this has returned: its entry is never used again.

        Raises:
            PrivacyError: another process has used it meanwhile, and the budget does not buy it again.
        """
        if self.terms is not None and entry is not None:
            self._book().release(entry, self.terms.budget)

    @property
    def open(self) -> bool:
        """Whether losses may be told while a training goes on."""
        return self.terms is None

    def releasable_losses(self, losses: Mapping[str, float]) -> dict[str, float]:
        """The losses that may leave with a contribution; at client level they are of networks without noise."""
        return {} if self.terms is not None and self.terms.unit == "client" else dict(losses)

    def protection(self) -> GradientProtection | None:
        """Of every step's sum; None where steps are ordinary ones."""
        if self.terms is None or self.terms.unit == "client":
            return None
        return GradientProtection(self.terms.clip, self.terms.noise)

    def source(self, *purpose: str | int) -> NoiseSource:
        """Of the sampling and the noise of a training: secret where steps are protected."""
        if self.terms is None or self.terms.unit == "client":
            return NoiseSource.seeded(self._site.seed, self._site.name, *purpose)
        return self.terms.source(self._site.seed, self._site.name, *purpose)

    def released_state(self, state: ModelState, base: ModelState, *purpose: str | int) -> ModelState:
        """What may leave of a trained model: at client level its clipped and noisy change."""
        if self.terms is not None and self.terms.unit == "client":
            source = self.terms.source(self._site.seed, self._site.name, "change", *purpose)
            return clip_and_noise(state, base, self.terms.client_level(), source)
        clip = self._config.share.clip
        return state if clip is None else clip_change(state, base, clip)[0]

    def running(self, grant: ReleaseReservation, done: int) -> dict[str, float]:
        """The epsilon by RDP after `done` of the granted steps, for the progress line."""
        if self.terms is None or grant.entry is None:
            return {}
        here = grant.entry.expense if self.terms.unit == "client" else self.terms.expense(done)
        return {"epsilon": epsilon([*self._book().expenses_beside(grant.entry), here], self.terms.budget.delta)}

    def affordable_rounds(self, steps: int, wanted: int) -> int:
        """In how many of the wanted rounds of `steps` steps the site can take part; the last may be cut short."""
        if self.terms is None:
            return wanted
        each = 1 if self.terms.unit == "client" else steps
        return -(-self._book().affordable_steps(self.terms.expense(each * wanted), self.terms.budget) // each)

    def told(self) -> dict[str, float]:
        """What a round's record says: the epsilons spent so far, and whether the noise is secret."""
        if self.terms is None:
            return {}
        spent = self._book().spent(self.terms.budget.delta)
        found = {"epsilon_rdp": spent.rdp, "epsilon_prv": spent.prv, "private": float(self.private)}
        if self.terms.unit == "client":
            rounds = sum(expense.steps for expense in self._book().expenses())
            alone = self.terms.client_level().expense_of_change(rounds)
            found["epsilon_alone"] = epsilon([alone], self.terms.budget.delta)
        return found

    def card(self) -> PrivacyStatement:
        """What the site says of its privacy."""
        terms = self.terms
        if terms is None:
            return PrivacyStatement(level="none", private=False)
        spent = self._book().spent(terms.budget.delta)
        return PrivacyStatement(
            level=terms.unit,
            private=self.private,
            noise=terms.noise,
            rate=terms.rate,
            clip=terms.clip,
            delta=terms.budget.delta,
            budget=terms.budget.epsilon,
            epsilon_rdp=spent.rdp,
            epsilon_prv=spent.prv,
        )

    def _book(self) -> PrivacyLedger:
        if self._ledger is None:
            raise PrivacyError("nothing is protected here, and nothing is accounted: set privacy.level")
        return self._ledger
