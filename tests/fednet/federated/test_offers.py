"""What may be offered, and which offer stands, whatever the order in which it is heard."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch

from fednet.api import Offer, OfferBatch
from fednet.errors import MethodError
from fednet.federated.offers import MAX_SUBJECTS, OfferSource, OfferStore, size, validated, versions


def offer(version: int = 1, value: float | None = None, origin: str = "anna", subject: str = "seven") -> Offer:
    return Offer(origin, subject, version, torch.full((2, 4), float(version) if value is None else value))


class TestValidation:
    def test_words_are_copied_since_they_may_go_on_being_learnt(self) -> None:
        words = torch.nn.Parameter(torch.ones(2, 4))
        (given,) = validated(OfferBatch((replace(offer(), embeddings=words),)), "anna").offers
        with torch.no_grad():
            words.fill_(9.0)
        assert torch.equal(given.embeddings, torch.ones(2, 4))
        assert not given.embeddings.requires_grad

    def test_they_come_contiguous_and_sorted(self) -> None:
        words = torch.arange(8.0).view(4, 2).T
        given = validated(OfferBatch((replace(offer(), embeddings=words), offer(subject="one")), {"loss": 1.0}), "anna")
        assert list(versions(given.offers)) == ["one", "seven"]
        assert given.offers[1].embeddings.is_contiguous()
        assert torch.equal(given.offers[1].embeddings, words)
        assert given.values == {"loss": 1.0}

    @pytest.mark.parametrize(
        ("changes", "why"),
        [
            ({"origin": "bert"}, "has the origin 'bert'"),
            ({"subject": ""}, "a subject of 0 characters"),
            ({"subject": 65 * "s"}, "a subject of 65 characters"),
            ({"version": 0}, "expected at least 1"),
            ({"embeddings": torch.ones(4)}, r"expected float32 \(tokens, width\)"),
            ({"embeddings": torch.ones(1, 3, 8, 8)}, r"expected float32 \(tokens, width\)"),
            ({"embeddings": torch.ones(2, 4, dtype=torch.float64)}, "torch.float64"),
            ({"embeddings": torch.ones(65, 4)}, "1 to 64 tokens of 1 to 4096 values"),
            ({"embeddings": torch.ones(1, 4097)}, "1 to 64 tokens of 1 to 4096 values"),
            ({"embeddings": torch.ones(0, 4)}, "1 to 64 tokens of 1 to 4096 values"),
            ({"embeddings": torch.full((2, 4), torch.nan)}, "not finite"),
            ({"embeddings": torch.full((2, 4), torch.inf)}, "not finite"),
        ],
    )
    def test_nothing_else_leaves_its_origin(self, changes: dict[str, object], why: str) -> None:
        with pytest.raises(MethodError, match=why):
            validated(OfferBatch((replace(offer(), **changes),)), "anna")  # type: ignore[arg-type]

    def test_a_subject_is_offered_once_in_a_call(self) -> None:
        with pytest.raises(MethodError, match="offers a subject twice"):
            validated(OfferBatch((offer(1), offer(2))), "anna")

    def test_a_call_has_so_many_subjects_and_no_more(self) -> None:
        many = tuple(offer(subject=str(number)) for number in range(MAX_SUBJECTS + 1))
        assert len(validated(OfferBatch(many[1:]), "anna").offers) == MAX_SUBJECTS
        with pytest.raises(MethodError, match="offers 257 subjects in one exchange: at most 256"):
            validated(OfferBatch(many), "anna")


class TestPrecedence:
    @pytest.mark.parametrize("order", list(itertools.permutations([1, 2, 3])))
    def test_the_newest_whatever_the_order(self, order: tuple[int, ...]) -> None:
        store = OfferStore()
        new = [version for version in order if store.add(offer(version))]
        assert store.at("anna", "seven").version == 3
        assert new == [version for index, version in enumerate(order) if version > max(order[:index], default=0)]

    def test_the_same_again_is_nothing_new(self) -> None:
        store = OfferStore()
        assert store.add(offer())
        store.record_outcome(store.at("anna", "seven"))
        assert not store.add(offer())
        assert store.refusals("anna", {"seven": 1}) == {}

    def test_other_embeddings_under_the_same_version_are_refused(self) -> None:
        store = OfferStore()
        store.add(first := offer(1))
        store.record_outcome(first)
        assert not store.add(offer(1, 9.0))
        assert store.at("anna", "seven") is first
        reasons = "version 1 was offered before with other embeddings: a change needs a new version"
        assert store.refusals("anna", {"seven": 1}) == {"seven": reasons}
        store.add(second := offer(2))
        store.record_outcome(second)
        assert store.refusals("anna", {"seven": 2}) == {}

    @pytest.mark.parametrize("version", [1, 2, 3])
    def test_what_an_origin_says_itself_takes_the_place_of_hearsay(self, version: int) -> None:
        store = OfferStore()
        assert store.add(offer(2, 7.0), OfferSource.RELAYED)
        assert store.add(mine := offer(version, 8.0))
        assert store.at("anna", "seven") is mine
        assert not store.add(offer(9), OfferSource.RELAYED)

    def test_true_hearsay_is_confirmed_and_not_absorbed_again(self) -> None:
        store = OfferStore()
        store.add(offer(2), OfferSource.RELAYED)
        assert not store.add(offer(2))
        assert not store.add(offer(1)), "received from the origin now, and older"

    def test_relayed_offers_fill_gaps_and_replace_nothing_from_the_origin(self) -> None:
        store = OfferStore()
        store.add(mine := offer(1))
        store.mark_departed("anna")
        assert not store.add(offer(5), OfferSource.RELAYED)
        assert store.add(offer(5, subject="one"), OfferSource.RELAYED)
        assert store.add(offer(6, subject="one"), OfferSource.RELAYED)
        assert [each.version for each in store.of("anna")] == [6, 1]
        assert store.at("anna", "seven") is mine

    @pytest.mark.parametrize("version", [1, 2, 3])
    def test_who_is_back_may_have_lost_its_memory(self, version: int) -> None:
        store = OfferStore()
        store.add(offer(2, 7.0))
        store.mark_departed("anna")
        assert store.add(offer(version, 8.0))
        assert store.at("anna", "seven").version == version

    def test_who_is_back_and_says_the_same_says_nothing_new(self) -> None:
        store = OfferStore()
        store.add(offer(2))
        store.mark_departed("anna")
        store.mark_departed("bert")
        assert not store.add(offer(2))
        assert not store.add(offer(1, 8.0)), "the origin is back"


class TestVerdict:
    def test_there_is_none_while_something_has_not_come_or_is_not_judged(self) -> None:
        store, listed = OfferStore(), {"one": 1, "seven": 2}
        assert store.refusals("anna", listed) is None
        store.add(one := offer(1, subject="one"))
        store.add(old := offer(1))
        for each in (one, old):
            store.record_outcome(each)
        assert store.refusals("anna", listed) is None
        store.add(new := offer(2))
        assert store.refusals("anna", listed) is None
        store.record_outcome(old, "too late")
        assert store.refusals("anna", listed) is None
        store.record_outcome(new, "of no use")
        assert store.refusals("anna", listed) == {"seven": "of no use"}
        assert store.refusals("anna", {"one": 1}) == {}

    def test_who_offers_nothing_is_done_with_at_once(self) -> None:
        assert OfferStore().refusals("anna", {}) == {}

    def test_something_is_lacking_until_all_has_come_whether_judged_or_not(self) -> None:
        store, listed = OfferStore(max_offers=2), {"one": 1, "seven": 2}
        assert store.is_missing("anna", listed)
        store.add(offer(1, subject="one"))
        store.add(offer(1))
        assert store.is_missing("anna", listed)
        store.add(offer(3))
        assert not store.is_missing("anna", listed)
        assert store.is_missing("anna", {"two": 1})
        assert not store.add(offer(1, subject="two"))
        assert not store.is_missing("anna", {"two": 1}), "there is no room for it"
        assert store.is_missing("anna", {"one": 2})

    def test_a_later_version_will_do(self) -> None:
        store = OfferStore()
        store.add(new := offer(4))
        store.record_outcome(new)
        assert store.refusals("anna", {"seven": 2}) == {}


class TestCapacity:
    def test_there_is_room_for_so_many_and_what_has_none_is_refused_by_name(self) -> None:
        store = OfferStore(max_offers=2)
        for subject in ("one", "two", "three"):
            if store.add(each := offer(subject=subject)):
                store.record_outcome(each)
        assert store.dropped == 1
        reasons = store.refusals("anna", {"one": 1, "three": 1})
        assert reasons == {"three": "no room: the store holds 2 offers of 64 bytes"}
        assert store.add(offer(2, subject="one")), "a newer one takes the room of the older one"

    def test_bytes_are_counted_too(self) -> None:
        store = OfferStore(max_bytes=2 * size(offer()))
        assert store.add(offer(subject="one"))
        assert store.add(offer(subject="two"))
        assert not store.add(offer(subject="three"))
        assert not store.add(replace(offer(2, subject="one"), embeddings=torch.ones(3, 4)))
        assert store.at("anna", "one").version == 1
        assert store.add(replace(offer(2, subject="one"), embeddings=torch.ones(1, 4)))
        assert store.add(replace(offer(subject="three"), embeddings=torch.ones(1, 4)))

    def test_who_is_on_it(self) -> None:
        store = OfferStore()
        store.add(offer(origin="bert"))
        store.add(offer())
        assert store.origins() == ("anna", "bert")
        assert store.of("carl") == ()
        with pytest.raises(KeyError):
            store.at("carl", "seven")
