"""The privacy of one site: the ledger, the noise, and what may be disclosed of both.

Steps are reserved in the ledger before they are taken; the sums of a training's steps are noisy, or, at client level,
the update that leaves the site. A reservation is released in the ledger before anything that came of it is disclosed.
Knows no training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fednet.api import ModelState, SiteContext
from fednet.errors import PrivacyError
from fednet.methods.private_gan.config import PrivateGanConfig
from fednet.methods.private_gan.mechanism import privacy_mechanism
from fednet.methods.private_gan.messages import PrivacyStatement
from fednet.methods.private_gan.training import GradientProtection
from fednet.privacy.accounting import Expense, epsilon, spent
from fednet.privacy.client_level import clip_and_noise, clip_change
from fednet.privacy.ledger import LedgerEntry, PrivacyLedger
from fednet.privacy.mechanism import PrivacyMechanism
from fednet.privacy.noise import NoiseSource


@dataclass(frozen=True)
class ReleaseReservation:
    """Steps of training that are reserved in the ledger under a key.

    Attributes:
        steps: how many may be taken.
        entry: in the ledger; None where nothing is accounted for.
    """

    steps: int
    entry: LedgerEntry | None


class PrivacyGuard:
    """The privacy of one site.

    Args:
        config: the run's.
        site: whose pictures are protected.
        ledgers: the folder of its ledger.
        disclosed: whether it tells, or has told, anything of its pictures without noise.

    Attributes:
        mechanism: None where nothing is protected.

    Raises:
        PrivacyError: the ledger is damaged or of another kind, the budget buys nothing, or no noise meets the target.
    """

    def __init__(
        self, config: PrivateGanConfig, site: SiteContext, ledgers: Path, disclosed: Callable[[], bool]
    ) -> None:
        self._config, self._site, self._disclosed = config, site, disclosed
        self.mechanism = privacy_mechanism(config)
        self._ledger: PrivacyLedger | None = (
            None if self.mechanism is None else self.mechanism.ledger(ledgers / f"{site.name}.json")
        )

    @property
    def private(self) -> bool:
        """Whether all that leaves the site is protected by noise that nobody knows."""
        secret = self.mechanism is not None and not self.mechanism.seeded and self._require_ledger().private
        return secret and not self._disclosed()

    def reserve(self, key: str, steps: int) -> ReleaseReservation:
        """Reserves as many of these steps as the budget buys; they count as spent when this returns.

        Raises:
            PrivacyError: the budget is spent.
        """
        if self.mechanism is None:
            return ReleaseReservation(steps, None)
        wanted = self.mechanism.expense(1 if self.mechanism.unit == "client" else steps)
        entry = self._require_ledger().reserve(key, wanted, self.mechanism.budget, private=not self.mechanism.seeded)
        return ReleaseReservation(steps if self.mechanism.unit == "client" else entry.steps, entry)

    def release(self, entry: LedgerEntry | None) -> None:
        """Releases an entry: what came of it may be disclosed once this has returned, and it is never used again.

        Raises:
            PrivacyError: another process has used it meanwhile, and the budget does not buy it again.
        """
        if self.mechanism is not None and entry is not None:
            self._require_ledger().release(entry, self.mechanism.budget)

    @property
    def open(self) -> bool:
        """Whether losses may be reported while a training goes on."""
        return self.mechanism is None

    def releasable_losses(self, losses: Mapping[str, float]) -> dict[str, float]:
        """The losses that may leave with a contribution; none at client level, where the networks have no noise."""
        return {} if self.mechanism is not None and self.mechanism.unit == "client" else dict(losses)

    def protection(self) -> GradientProtection | None:
        """The protection of every step's sum; None where steps are ordinary ones."""
        if self.mechanism is None or self.mechanism.unit == "client":
            return None
        return GradientProtection(self.mechanism.clip, self.mechanism.noise)

    def source(self, *purpose: str | int) -> NoiseSource:
        """The source of a training's sampling and noise: secret where steps are protected."""
        if self.mechanism is None or self.mechanism.unit == "client":
            return NoiseSource.seeded(self._site.seed, self._site.name, *purpose)
        return self.mechanism.source(self._site.seed, self._site.name, *purpose)

    def released_state(self, state: ModelState, base: ModelState, *purpose: str | int) -> ModelState:
        """What may leave of a trained model: at client level its clipped and noisy update."""
        if self.mechanism is not None and self.mechanism.unit == "client":
            source = self.mechanism.source(self._site.seed, self._site.name, "change", *purpose)
            return clip_and_noise(state, base, self.mechanism.client_level(), source)
        clip = self._config.share.clip
        return state if clip is None else clip_change(state, base, clip)[0]

    def running(self, reservation: ReleaseReservation, done: int) -> dict[str, float]:
        """The epsilon by RDP after `done` of the reserved steps, for the progress line."""
        if self.mechanism is None or reservation.entry is None:
            return {}
        here = reservation.entry.expense if self.mechanism.unit == "client" else self.mechanism.expense(done)
        return {
            "epsilon": epsilon(
                [*self._require_ledger().expenses_beside(reservation.entry), here], self.mechanism.budget.delta
            )
        }

    def affordable_rounds(self, steps: int, wanted: int) -> int:
        """In how many of the wanted rounds of `steps` steps the site can take part; the last may be cut short."""
        if self.mechanism is None:
            return wanted
        each = 1 if self.mechanism.unit == "client" else steps
        return -(-self._affordable(self.mechanism, steps, wanted).steps // each)

    def values(self) -> dict[str, float]:
        """What a round records: the epsilons spent so far, and whether the noise is secret."""
        if self.mechanism is None:
            return {}
        total = self._require_ledger().spent(self.mechanism.budget.delta)
        values = {"epsilon_rdp": total.rdp, "epsilon_prv": total.prv, "private": float(self.private)}
        if self.mechanism.unit == "client":
            rounds = sum(expense.steps for expense in self._require_ledger().expenses())
            alone = self.mechanism.client_level().expense_of_change(rounds)
            values["epsilon_alone"] = epsilon([alone], self.mechanism.budget.delta)
        return values

    def statement(self, steps: int = 1, ahead: int = 0) -> PrivacyStatement:
        """What the site publishes of its privacy: what the ledger holds, with `ahead` rounds of `steps` steps more.

        A run may end within a round, and nobody may be left to ask: what is stated before it counts it as released.
        """
        mechanism = self.mechanism
        if mechanism is None:
            return PrivacyStatement(level="none", private=False, disclosed=self._disclosed())
        expenses = self._require_ledger().expenses()
        if ahead:
            expenses.append(self._affordable(mechanism, steps, ahead))
        total = spent(expenses, mechanism.budget.delta)
        return PrivacyStatement(
            level=mechanism.unit,
            private=self.private,
            disclosed=self._disclosed(),
            noise=mechanism.noise,
            rate=mechanism.rate,
            clip=mechanism.clip,
            delta=mechanism.budget.delta,
            budget=mechanism.budget.epsilon,
            epsilon_rdp=total.rdp,
            epsilon_prv=total.prv,
            ahead=ahead,
        )

    def _affordable(self, mechanism: PrivacyMechanism, steps: int, rounds: int) -> Expense:
        """What the budget buys of so many rounds of `steps` steps; a round is one step at client level."""
        wanted = mechanism.expense(rounds if mechanism.unit == "client" else rounds * steps)
        return mechanism.expense(self._require_ledger().affordable_steps(wanted, mechanism.budget))

    def _require_ledger(self) -> PrivacyLedger:
        if self._ledger is None:
            raise PrivacyError("privacy.level none has no ledger: set privacy.level")
        return self._ledger
