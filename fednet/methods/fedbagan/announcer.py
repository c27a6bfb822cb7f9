"""What a site of the class-balancing GAN announces and agrees to, before it makes a model; imports no torch."""

from __future__ import annotations

from fednet.errors import DataError
from fednet.methods.common.announcer import ImageAnnouncer
from fednet.methods.fedbagan.config import FedBaganConfig


class FedBaganAnnouncer(ImageAnnouncer[FedBaganConfig]):
    """One site before it is loaded (an `Announcer`)."""

    def labelled(self) -> str:
        """Every class has a Gaussian of its own."""
        return "the method fedbagan"

    def require_classes(self, classes: tuple[str, ...]) -> None:
        """Checks that there is something to balance, and that the rare classes exist.

        Raises:
            DataError: there are fewer than two classes.
            UnknownClass: a class that should be rare does not exist.
        """
        if len(classes) < 2:
            raise DataError(f"the method fedbagan balances classes, and there is one: {', '.join(classes)}")
        self.config.rare(classes)
