"""Client-level privacy of a training loop's contributions: noise on the change, and the site's ledger.

The cost of a round is reserved before the loop trains, and released before anything of it leaves the site, a failure of
the loop included. A site that dies in between pays once; one that dies after its contribution has left, and is asked
for the round again, pays for what it trains anew.
"""

from __future__ import annotations

from collections.abc import Callable

from fednet.api import ModelState, SiteContext, Update
from fednet.errors import MethodError
from fednet.methods.external_training.config import ExternalTrainingConfig
from fednet.privacy.accounting import epsilon
from fednet.privacy.client_level import clip_and_noise
from fednet.privacy.config import PrivacyTerms
from fednet.privacy.ledger import LedgerEntry
from fednet.privacy.mechanism import make_mechanism


class ClientProtection:
    """Client-level privacy of one site.

    Args:
        terms: how much noise, and how far.
        config: of the run.
        site: whose participation is protected.

    Raises:
        PrivacyError: no noise meets the target, the budget buys nothing, or the ledger is damaged or of another kind.
    """

    def __init__(self, terms: PrivacyTerms, config: ExternalTrainingConfig, site: SiteContext) -> None:
        self._mechanism = make_mechanism(terms, "client", config.federation, rate=1.0, planned=config.rounds)
        folder = site.folder / "ledgers" if terms.ledger is None else terms.ledger.expanduser()
        self._ledger = self._mechanism.ledger(folder / f"{site.name}.json")
        self._site = site

    def contribution(self, key: str, base: ModelState, train: Callable[[], Update]) -> Update:
        """What may leave of a round: the clipped and noisy change, of the same weight as everybody's.

        What the loop has measured stays here, since no epsilon covers it; the epsilons spent so far are said instead.

        Args:
            key: of the round; one that is begun again before anything of it has left is not paid for twice.
            base: the model that the round starts from.
            train: trains it.

        Raises:
            MethodError: the loop declines.
            ModelError: its model is not finite, or another one.
            PrivacyError: the budget is spent, or noise would spoil the model.
        """
        mechanism = self._mechanism
        entry = self._ledger.reserve(key, mechanism.expense(1), mechanism.budget, private=not mechanism.seeded)
        try:
            trained = train()
            source = mechanism.source(self._site.seed, self._site.name, "change", key)
            state = clip_and_noise(trained.state, base, mechanism.client_level(), source)
        except MethodError:
            self._release(entry)
            raise
        self._release(entry)
        return Update(state, 1.0, self.spent())

    def spent(self) -> dict[str, float]:
        """What the ledger holds: epsilons of the sums and of this site's changes alone; and whether all was secret."""
        delta = self._mechanism.budget.delta
        total, rounds = self._ledger.spent(delta), sum(expense.steps for expense in self._ledger.expenses())
        alone = epsilon([self._mechanism.client_level().expense_of_change(rounds)], delta) if rounds else 0.0
        return {
            "epsilon_rdp": total.rdp, "epsilon_prv": total.prv, "epsilon_alone": alone,
            "private": float(self._ledger.private),
        }  # fmt: skip

    def _release(self, entry: LedgerEntry) -> None:
        self._ledger.release(entry, self._mechanism.budget)
