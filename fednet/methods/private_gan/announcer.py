"""What a site of private GAN training announces and agrees to, before it makes a model; imports no torch."""

from __future__ import annotations

from collections.abc import Collection

from fednet.data.sizes import train_size
from fednet.methods.common.announcer import ImageAnnouncer
from fednet.methods.private_gan.config import PrivateGanConfig


class PrivateGanAnnouncer(ImageAnnouncer[PrivateGanConfig]):
    """One site before it is loaded (an `Announcer`)."""

    def labelled(self) -> str:
        """The GAN knows no labels; the classifier does."""
        return "the classifier (classifier.rounds)" if self.config.classifier.rounds else ""

    def train_ratio(self) -> float:
        """The fraction of its pictures that is trained on; a site that permits audits keeps some from all training."""
        permission = self.config.disclose.audit
        return 1.0 if permission is None else 1.0 - permission.held_out

    def divided(self, counts: Collection[int]) -> dict[str, int]:
        """What is kept from all training are the audit's non-members."""
        pictures = sum(counts)
        trained = train_size(pictures, self.train_ratio())
        return {"train": trained, **({"audit": pictures - trained} if pictures > trained else {})}
