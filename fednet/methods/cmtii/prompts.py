"""Prompts that hold pseudo-words, and the substitution of their embeddings in a text tower.

A prompt is the ids of "a photo of a", a place for every token of the word, and the end. The tower reads ids, so each
place holds an ordinary id, and while it reads, its own table answers with the word's vectors in these places: whatever
follows, positions, mask, norms and pooling, is the tower's own code. So a word that is a row of the table gives exactly
what the token gives. Knows no particular model; CLIP and image generator both use it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from fednet.errors import ModelError

PROMPT_TEMPLATE = "a photo of a"
"""What stands before the word."""


class Tokenizer(Protocol):
    """Turns text into ids; open_clip's `SimpleTokenizer` is one.

    Attributes:
        sot_token_id: what every prompt begins with.
        eot_token_id: what it ends with; the highest id, since towers look for it by that.
    """

    sot_token_id: int
    eot_token_id: int

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without start and end."""


@dataclass(frozen=True)
class PromptLayout:
    """How a tower's prompts are laid out: start, "a photo of a", the word, end, and padding up to `context`.

    Attributes:
        start: the id that every prompt begins with.
        head: the ids of "a photo of a".
        end: the id that follows the word.
        pad: the id that fills the rest.
        context: ids in a prompt.
        width: how many numbers a token has.
    """

    start: int
    head: tuple[int, ...]
    end: int
    pad: int
    context: int
    width: int

    @property
    def room(self) -> int:
        """How many tokens a word may have."""
        return self.context - len(self.head) - 2

    def row(self, tokens: int) -> list[int]:
        """The ids of a prompt whose word has so many tokens; its places hold the id before them."""
        ids = [self.start, *self.head, *[self.head[-1]] * tokens, self.end]
        return ids + [self.pad] * (self.context - len(ids))

    def empty(self) -> Tensor:
        """The ids of the empty prompt: int64 (1, context)."""
        ids = [self.start, self.end]
        return torch.tensor([ids + [self.pad] * (self.context - len(ids))])

    def require(self, words: Sequence[Tensor]) -> None:
        """Checks that words can stand in a prompt.

        Raises:
            ModelError: there is none, or one has another width, no token, too many, or is not finite.
        """
        if not words:
            raise ModelError("there is no word to put into a prompt")
        for index, word in enumerate(words):
            if word.ndim != 2 or word.shape[1] != self.width or not word.is_floating_point():
                raise ModelError(
                    f"word {index} is {word.dtype} {tuple(word.shape)}; this model's words are floating "
                    f"(tokens, {self.width}): it was learnt with another model"
                )
            if not 1 <= len(word) <= self.room:
                raise ModelError(f"word {index} has {len(word)} tokens; a prompt has room for 1 to {self.room}")
            if not bool(word.detach().isfinite().all()):
                raise ModelError(f"word {index} holds NaN or infinity")


@dataclass(frozen=True)
class PromptBatch:
    """Several prompts, one for each word.

    Attributes:
        ids: int64 (k, context).
        places: bool (k, context): where the words' tokens stand.
        tokens: (tokens of all words, width), in the order of `places`.
    """

    ids: Tensor
    places: Tensor
    tokens: Tensor


def compose_prompts(layout: PromptLayout, words: Sequence[Tensor], device: torch.device) -> PromptBatch:
    """Puts every word into a prompt of its own.

    Args:
        layout: the tower's.
        words: k words (tokens_i, width), on any device.
        device: where the tower lives.

    Raises:
        ModelError: see `PromptLayout.require`.
    """
    layout.require(words)
    first = 1 + len(layout.head)
    ids = torch.tensor([layout.row(len(word)) for word in words])
    places = torch.zeros_like(ids, dtype=torch.bool)
    for index, word in enumerate(words):
        places[index, first : first + len(word)] = True
    return PromptBatch(ids.to(device), places.to(device), torch.cat([word.to(device) for word in words]))


@contextmanager
def substitute_embeddings(table: nn.Embedding, prompts: PromptBatch) -> Iterator[None]:
    """While it lasts, a tower's table answers the ids of `prompts` with the words' vectors in their places.

    Gradients flow to the words. For one thread at a time.
    """

    def answer(_table: nn.Module, _ids: object, rows: Tensor) -> Tensor:
        return rows.masked_scatter(prompts.places[..., None], prompts.tokens.to(rows.dtype))

    handle = table.register_forward_hook(answer)
    try:
        yield
    finally:
        handle.remove()


class WordVocabulary:
    """A tokenizer of whole words (a `Tokenizer`): every word is one token, and no other word exists.

    Ids follow the order of the words; start and end come after them. "a", "photo" and "of" are always there.

    Args:
        words: in lower case, each once, without spaces.
    """

    def __init__(self, words: Sequence[str]) -> None:
        own = tuple(dict.fromkeys([*PROMPT_TEMPLATE.split(), *words]))
        self._ids = {word: index for index, word in enumerate(own)}
        self.sot_token_id, self.eot_token_id = len(own), len(own) + 1

    def __len__(self) -> int:
        """How many ids there are, start and end included."""
        return len(self._ids) + 2

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without start and end.

        Raises:
            ModelError: it holds a word that does not exist.
        """
        parts = text.lower().split()
        if unknown := [part for part in parts if part not in self._ids]:
            raise ModelError(f"the vocabulary has no word {unknown[0]!r}: it knows {', '.join(self._ids)}")
        return [self._ids[part] for part in parts]
