"""Words by class: by name, by alias, of unknown subjects, merged; whatever the order in which they arrived."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch

from fednet.api import Offer
from fednet.errors import MethodError, ModelError
from fednet.methods.cmtii.backend import CmtiiBackend
from fednet.methods.cmtii.lexicon import Lexicon, UnknownSubjectPolicy, class_text_features

CLASSES = tuple(map(str, range(10)))


def lexicon(
    backend: CmtiiBackend, aliases: dict[str, str] | None = None, unknown: UnknownSubjectPolicy = "refuse"
) -> Lexicon:
    return Lexicon(backend.clip, CLASSES, aliases or {}, unknown)


def offer(origin: str, subject: str, value: float = 0.5, version: int = 1) -> Offer:
    return Offer(origin, subject, version, torch.full((1, 16), value))


def test_words_of_one_class_come_together_in_any_order(backend: CmtiiBackend) -> None:
    offers = [offer("a2", "3", 0.1), offer("a1", "3", 0.2), offer("a1", "7", 0.3)]
    found = []
    for order in permutations(offers):
        here = lexicon(backend)
        for one in order:
            here.add_received(one)
        found.append({label: [float(word[0, 0]) for word in words] for label, words in here.received().items()})
    assert found[0] == {3: [pytest.approx(0.2), pytest.approx(0.1)], 7: [pytest.approx(0.3)]}
    assert all(one == found[0] for one in found)


def test_a_newer_version_replaces_an_older_one(backend: CmtiiBackend) -> None:
    here = lexicon(backend)
    assert here.add_received(offer("a1", "3", 0.2, version=2))
    assert not here.add_received(offer("a1", "3", 0.1, version=1))
    assert float(here.received()[3][0][0, 0]) == pytest.approx(0.2)


def test_an_unknown_subject_is_refused_by_name(backend: CmtiiBackend) -> None:
    with pytest.raises(MethodError, match=r"a2 for 'cat'.*no class of this run"):
        lexicon(backend).add_received(offer("a2", "cat"))


def test_an_alias_is_sent_and_understood(backend: CmtiiBackend) -> None:
    here = lexicon(backend, {"alpha": "3"})
    assert here.subject(3) == "alpha"
    assert here.subject(4) == "4"
    here.add_received(offer("a2", "alpha"))
    assert list(here.received()) == [3]


def test_a_word_of_an_unknown_subject_goes_to_the_nearest_name(backend: CmtiiBackend) -> None:
    here = lexicon(backend, unknown="nearest")
    here.add_received(Offer("a2", "cat", 1, backend.clip.tokens("6")))
    assert list(here.received()) == [6]


@pytest.mark.parametrize(
    ("words", "what"),
    [(torch.zeros(1, 8), "16"), (torch.full((1, 16), torch.nan), "NaN"), (torch.zeros(9, 16), "tokens")],
)
def test_words_that_cannot_be_read_are_refused_by_name(backend: CmtiiBackend, words: torch.Tensor, what: str) -> None:
    with pytest.raises(ModelError, match=f"a2 for '3'.*{what}"):
        lexicon(backend).add_received(Offer("a2", "3", 1, words))


def test_an_own_word_stands_beside_those_of_others(backend: CmtiiBackend) -> None:
    here = lexicon(backend)
    here.add_own(offer("a1", "3", 0.9))
    here.add_received(offer("a2", "3", 0.1))
    assert [len(words) for words in here.words_by_class(received=True)] == [1, 1, 1, 2, 1, 1, 1, 1, 1, 1]
    assert torch.equal(here.words_by_class(received=False)[3][0], here.own[3])
    assert torch.equal(here.words_by_class(received=True)[5][0], backend.clip.tokens("5"))


def test_merging_one_word_is_that_word(backend: CmtiiBackend) -> None:
    word = torch.full((1, 16), 0.3)
    alone, twice = class_text_features(backend.clip, [[word], [word, word]])
    assert torch.allclose(alone, twice, atol=1e-6)
    assert torch.allclose(alone, backend.clip.text_features([word])[0], atol=1e-6)
