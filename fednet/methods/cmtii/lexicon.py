"""The pseudo-words that a site has for each class: its own, those of other sites, and the tokens of the class's name.

A subject is the name of a class or an alias that the run has agreed on. The words of several sites for one class are
merged: its text feature is the mean of theirs, and pictures are generated from each. An unknown subject is refused by
name, or, where the run is configured so, assigned to the class whose tokens its word is nearest to. The result does not
depend on the order of arrival. Knows no pictures and no training.

The source sorts words to classes by k-means over words and tokens together, which may give a class another one's
tokens, and keeps a received word as one more class beside its own, so that it competes with what it names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fednet.api import Offer
from fednet.errors import MethodError, ModelError
from fednet.methods.cmtii.backend import ClipModel

UnknownSubjectPolicy = Literal["refuse", "nearest"]


class Lexicon:
    """The words of one site.

    Args:
        clip: reads them.
        classes: the classes' names.
        aliases: a class's name by its alias.
        unknown: what becomes of a subject that is neither a class nor an alias.

    Attributes:
        classes: the classes' names.
        own: the site's words by class, each (tokens, width).
    """

    def __init__(
        self, clip: ClipModel, classes: Sequence[str], aliases: Mapping[str, str], unknown: UnknownSubjectPolicy
    ) -> None:
        self._clip, self.classes, self._aliases, self._unknown = clip, tuple(classes), dict(aliases), unknown
        self._alias_of = {name: alias for alias, name in self._aliases.items()}
        self._received: dict[tuple[str, str], Offer] = {}
        self.own: dict[int, Tensor] = {}

    def subject(self, label: int) -> str:
        """The subject of offers for a class: its alias, or its name where it has none."""
        name = self.classes[label]
        return self._alias_of.get(name, name)

    def add_own(self, offer: Offer) -> None:
        """Adds a word that the site has learnt itself; its subject is a class."""
        known = self._known(offer.subject)
        if known is None:
            raise MethodError(f"{offer.subject!r} is no class of this run: it cannot have been learnt here")
        self.own[known] = offer.embeddings

    def add_received(self, offer: Offer) -> bool:
        """Adds a word of another site; a newer version replaces an older one.

        Returns:
            Whether it was added; it is not where a newer one is there.

        Raises:
            ModelError: its words are of another width, too long or not finite.
            MethodError: its subject is unknown, and unknown ones are refused.
        """
        who = f"the word of {offer.origin} for {offer.subject!r}"
        try:
            with torch.no_grad():
                self._clip.text_features([offer.embeddings])
        except ModelError as error:
            raise ModelError(f"{who} cannot be read: {error}") from error
        if self._known(offer.subject) is None and self._unknown == "refuse":
            raise MethodError(
                f"{who} is about no class of this run ({', '.join(self.classes)}) and no agreed alias: "
                "add it to aliases, or set unknown: nearest"
            )
        before = self._received.get((offer.origin, offer.subject))
        if before is not None and before.version > offer.version:
            return False
        self._received[offer.origin, offer.subject] = offer
        return True

    def received(self) -> dict[int, list[Tensor]]:
        """The words that others have sent, by class; within a class by origin and subject."""
        words: dict[int, list[Tensor]] = {}
        for _, offer in sorted(self._received.items()):
            known = self._known(offer.subject)
            words.setdefault(self.nearest(offer.embeddings) if known is None else known, []).append(offer.embeddings)
        return dict(sorted(words.items()))

    def tokens(self, label: int) -> Tensor:
        """The tokens of a class's name: (tokens, width)."""
        return self._clip.tokens(self.classes[label])

    def nearest(self, word: Tensor) -> int:
        """The class whose name's tokens a word comes nearest to, by the cosine of their prompts."""
        with torch.no_grad():
            names = self._clip.text_features([self.tokens(label) for label in range(len(self.classes))])
            return int((names @ self._clip.text_features([word])[0]).argmax())

    def words_by_class(self, *, received: bool) -> list[list[Tensor]]:
        """The words of every class, in class order.

        Args:
            received: also those of other sites. A class without a word has its name's tokens.
        """
        others = self.received() if received else {}
        labels = range(len(self.classes))
        words = [[*([self.own[k]] if k in self.own else []), *others.get(k, [])] for k in labels]
        return [several or [self.tokens(label)] for label, several in zip(labels, words, strict=True)]

    def _known(self, subject: str) -> int | None:
        name = self._aliases.get(subject, subject)
        return self.classes.index(name) if name in self.classes else None


@torch.no_grad()
def class_text_features(clip: ClipModel, words: Sequence[Sequence[Tensor]]) -> Tensor:
    """One text feature a class, the mean direction of those of its words: (classes, features), of length 1."""
    features = clip.text_features([word for several in words for word in several])
    parts = torch.split(features, [len(several) for several in words])
    return normalize(torch.stack([part.mean(0) for part in parts]), dim=-1)
