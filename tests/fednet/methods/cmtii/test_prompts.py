"""Where words stand in a prompt, and that a table returns them only within the context."""

from __future__ import annotations

import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer
from torch import nn

from fednet.errors import ModelError
from fednet.methods.cmtii.prompts import (
    PROMPT_TEMPLATE,
    PromptLayout,
    WordVocabulary,
    compose_prompts,
    substitute_embeddings,
)

LAYOUT = PromptLayout(start=90, head=(3, 4), end=91, pad=0, context=7, width=2)
CPU = torch.device("cpu")


def test_a_word_stands_between_the_prompt_and_the_end() -> None:
    words = [torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0], [5.0, 6.0]])]
    prompts = compose_prompts(LAYOUT, words, CPU)
    assert prompts.ids.tolist() == [[90, 3, 4, 4, 91, 0, 0], [90, 3, 4, 4, 4, 91, 0]]
    assert prompts.places.int().tolist() == [[0, 0, 0, 1, 0, 0, 0], [0, 0, 0, 1, 1, 0, 0]]
    assert LAYOUT.empty().tolist() == [[90, 91, 0, 0, 0, 0, 0]]
    assert LAYOUT.room == 3
    compose_prompts(LAYOUT, [torch.zeros(LAYOUT.room, 2)], CPU)


def test_a_table_returns_words_only_within_the_context() -> None:
    table = nn.Embedding(92, 2)
    words = [torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0], [5.0, 6.0]], requires_grad=True)]
    prompts = compose_prompts(LAYOUT, words, CPU)
    plain = table(prompts.ids)
    with substitute_embeddings(table, prompts):
        rows = table(prompts.ids)
    assert torch.equal(rows[0, 3], words[0][0])
    assert torch.equal(rows[1, 3:5], words[1])
    assert torch.equal(rows[~prompts.places], plain[~prompts.places])
    assert torch.equal(table(prompts.ids), plain)
    rows.sum().backward()
    assert words[1].grad is not None
    assert torch.equal(words[1].grad, torch.ones(2, 2))


def test_a_table_is_itself_again_after_a_failure() -> None:
    table = nn.Embedding(92, 2)
    prompts = compose_prompts(LAYOUT, [torch.zeros(1, 2)], CPU)
    with pytest.raises(RuntimeError, match="on the way"), substitute_embeddings(table, prompts):
        raise RuntimeError("on the way")
    assert bool(table(prompts.ids).any(-1).all())


def test_a_vocabulary_knows_its_words_and_the_prompts() -> None:
    vocabulary = WordVocabulary(["seven", "of", "bold"])
    assert len(vocabulary) == 7
    assert vocabulary.encode("Seven bold") == [vocabulary.encode("seven")[0], vocabulary.encode("bold")[0]]
    ids = [*vocabulary.encode(f"{PROMPT_TEMPLATE} seven bold"), vocabulary.sot_token_id, vocabulary.eot_token_id]
    assert sorted(set(ids)) == list(range(len(vocabulary)))
    assert vocabulary.eot_token_id == max(ids)
    with pytest.raises(ModelError, match="no word 'eight': it knows a, photo, of, seven, bold"):
        vocabulary.encode("a photo of a eight")


def test_splitting_the_prompt_from_the_name_changes_nothing() -> None:
    """A prompt and a name tokenised apart are what they are together, so a class's rows can be put after the prompt."""
    tokenizer = SimpleTokenizer()
    for name in ("cat", "aquarium_fish", "T-shirt", "7"):
        assert tokenizer.encode(PROMPT_TEMPLATE) + tokenizer.encode(name) == tokenizer.encode(
            f"{PROMPT_TEMPLATE} {name}"
        )
