"""The sum is exact whoever drops when, a single vector looks like noise, and a lie ends in a refusal."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from fednet.errors import MethodError, PrivacyError
from fednet.privacy.consistency_check import VOTE_BYTES
from fednet.privacy.entropy import SeededRandom
from fednet.privacy.masking import VectorMasking, sum_masked
from fednet.privacy.quantise import Quantiser
from fednet.privacy.secure_sum import SecureSumParty
from fednet.privacy.secure_sum_setup import KEYS_BYTES
from fednet.privacy.shares import SEALED_BYTES, is_genuine
from fednet.privacy.threshold import default_threshold
from fednet.privacy.unmasking import mask_sign, own_key, pair_key, parse_reveal, reveal_bytes

Circle = Any
"""The class in conftest.py."""


def drawn(names: list[str], length: int = 50) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(len(names))
    return {name: torch.randint(-(2**31), 2**31, (length,), generator=generator).to(torch.int32) for name in names}


STAGES = ("keys", "shares", "upload")


@pytest.mark.parametrize("when", list(product(STAGES, repeat=3)), ids="-".join)
def test_ten_peers_of_whom_three_drop_give_exactly_the_survivors_sum(Circle: Circle, when: tuple[str, ...]) -> None:
    circle = Circle.of(10, default_threshold(10))
    given = drawn(circle.names)
    lost = {stage: [f"c0{2 + index}" for index in range(3) if when[index] == stage] for stage in STAGES}
    circle.advertise(lost["keys"]).share(lost["shares"]).receive().mask(given, lost["upload"]).reveal()
    survivors = [name for name in circle.names if name not in {"c02", "c03", "c04"}]
    assert list(circle.masked) == survivors
    exact = sum_masked({name: given[name] for name in survivors})
    for name in survivors:
        assert torch.equal(circle.parties[name].unmask(circle.total(), circle.reveals), exact)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_it_is_exact_or_refused_whoever_drops_when(Circle: Circle, data: st.DataObject) -> None:
    count = data.draw(st.integers(3, 8))
    threshold = data.draw(st.integers(max(3, count // 2 + 1), count))
    fate = st.sampled_from(["stays", *STAGES, "votes"])
    fates = ["stays", *data.draw(st.lists(fate, min_size=count - 1, max_size=count - 1))]
    circle = Circle.of(count, threshold, random=SeededRandom(count, threshold))
    vectors = drawn(circle.names, 9)

    def lost(stage: str) -> list[str]:
        return [name for name, fate in zip(circle.names, fates, strict=True) if fate == stage]

    def result() -> Tensor:
        circle.advertise(lost("keys")).share(lost("shares")).receive()
        circle.mask(vectors, lost("upload")).reveal(silent=lost("votes"))
        found: Tensor = circle.parties["c00"].unmask(circle.total(), circle.reveals)
        return found

    if fates.count("stays") < threshold:
        with pytest.raises(PrivacyError, match=rf"of {count} parties .*, the threshold is {threshold}"):
            result()
    else:
        assert torch.equal(result(), sum_masked({name: vectors[name] for name in circle.masked}))


def test_real_numbers_come_within_the_bound_of_the_quantisation(Circle: Circle) -> None:
    circle, quantiser = Circle.of(10, 7), Quantiser(1.0, 10)
    generator = torch.Generator().manual_seed(0)
    values = {name: torch.rand(5000, generator=generator, dtype=torch.float64) * 2 - 1 for name in circle.names}
    encoded = {name: quantiser.encode(value) for name, value in values.items()}
    circle.advertise().share().receive().mask(encoded, lost=["c00", "c05", "c09"]).reveal()
    total = quantiser.decode(circle.parties["c01"].unmask(circle.total(), circle.reveals))
    error = (total - sum(values[name] for name in circle.masked)).abs().max()
    assert 0 < error <= 7 / (2 * quantiser.scale)


def test_the_masks_of_all_cancel_but_for_their_own(Circle: Circle) -> None:
    circle = Circle.of(5, 3).advertise().share().receive()
    zero = torch.zeros(70_001, dtype=torch.int32)
    circle.mask(dict.fromkeys(circle.names, zero))
    own = [(own_key(party._secrets.seed, name, party._parties), -1) for name, party in circle.parties.items()]
    assert torch.equal(VectorMasking("sum", own).next(circle.total()), zero)


def test_a_masked_vector_is_uniform_whatever_is_in_it(Circle: Circle) -> None:
    circle = Circle.of(3, 3, random=SeededRandom(0)).advertise().share().receive()
    zero = torch.zeros(300_000, dtype=torch.int32)
    circle.mask(dict.fromkeys(circle.names, zero))
    for masked in circle.masked.values():
        values = masked.numpy().view("uint32")
        assert stats.kstest(values / 2**32, "uniform").pvalue > 1e-3
        counts = torch.bincount(masked.view(torch.uint8).int(), minlength=256)
        assert stats.chisquare(counts.numpy()).pvalue > 1e-3
        bits = [float(((masked >> bit) & 1).float().mean()) for bit in range(32)]
        assert all(abs(share - 0.5) < 0.005 for share in bits)
    pairs = [("c00", "c01"), ("c00", "c02"), ("c01", "c02")]
    for one, other in pairs:
        assert abs(float(stats.pearsonr(circle.masked[one], circle.masked[other]).statistic)) < 0.01
    plain = Circle.of(3, 3, random=SeededRandom(0)).advertise().share().receive()
    plain.mask(dict.fromkeys(plain.names, zero + 5))
    assert all(torch.equal(plain.masked[name] - 5, circle.masked[name]) for name in circle.names)


def test_a_late_vector_stays_hidden_by_all_that_was_revealed(Circle: Circle) -> None:
    circle = Circle.of(5, 3, random=SeededRandom(1)).advertise().share().receive()
    secret = torch.zeros(200_000, dtype=torch.int32)
    circle.mask(dict.fromkeys(circle.names, secret))
    late = circle.masked.pop("c04")
    circle.reveal()
    agreement = circle.parties["c00"]._agreement
    parties = agreement.parties
    for name, revealed in circle.reveals.items():
        share = parse_reveal(agreement, name, revealed)["c04"]
        assert is_genuine(share, "key", "c04", name, parties)
        assert not is_genuine(share, "seed", "c04", name, parties)
        assert share == circle.parties[name]._held["c04"]["key"]
        assert circle.parties[name]._held["c04"]["seed"].packed() not in revealed
    pairs = [  # the key of its pairs is public now
        (pair_key(circle.parties["c04"]._secrets.mask, "c04", other, parties), -mask_sign("c04", other))
        for other in agreement.survivors
    ]
    left = VectorMasking("c04", pairs).next(late)
    assert stats.kstest(left.numpy().view("uint32") / 2**32, "uniform").pvalue > 1e-3
    own = own_key(circle.parties["c04"]._secrets.seed, "c04", parties)
    assert torch.equal(VectorMasking("c04", [(own, -1)]).next(left), secret)
    with pytest.raises(PrivacyError, match="other survivors"):
        circle.vote(circle.names)


def test_nobody_votes_or_reveals_for_a_second_set_whatever_the_lead_claims(whole: Circle) -> None:
    party = whole.parties["c00"]
    first = whole.reveals["c00"]
    for survivors in (["c00", "c01", "c02"], ["c00", "c01", "c02", "c03", "c04"], ["c01", "c02", "c03", "c04"]):
        with pytest.raises(PrivacyError, match="voted for other survivors"):
            party.vote(survivors, set(whole.names) - set(survivors))
    assert whole.vote(whole.masked)["c00"] == party.vote(reversed(list(whole.masked)), ["c04"])
    assert party.reveal(whole.vote(whole.masked)) == first
    kinds = {name: party._agreement.kind(name) for name in whole.names}
    for name, kind in kinds.items():
        other = "key" if kind == "seed" else "seed"
        assert party._held[name][kind].packed() in first
        assert party._held[name][other].packed() not in first


def test_a_lead_that_tells_each_of_other_survivors_gets_no_reveal(Circle: Circle) -> None:
    circle = Circle.of(5, 3).advertise().share().receive()
    circle.mask(drawn(circle.names))
    told = {
        "c00": ["c00", "c01", "c02", "c03"],
        "c01": ["c00", "c01", "c02", "c03"],
        "c02": ["c00", "c02", "c03", "c04"],
        "c03": ["c00", "c02", "c03", "c04"],
        "c04": ["c00", "c01", "c04"],
    }
    votes = {name: circle.parties[name].vote(alive, set(circle.names) - set(alive)) for name, alive in told.items()}
    for name, alive in told.items():
        party = circle.parties[name]
        agreeing = {other: votes[other] for other in votes if told[other] == alive}
        with pytest.raises(PrivacyError, match="voted for the survivors, the threshold is 3"):
            party.reveal(agreeing)
        with pytest.raises(PrivacyError, match="for other survivors") as caught:
            party.reveal(votes)
        assert caught.value.peers[0] not in agreeing
        assert not party._revealed


def test_sharers_told_apart_gives_no_reveal(Circle: Circle) -> None:
    circle = Circle.of(5, 3).advertise().share()
    for name, party in circle.parties.items():
        without = "c03" if name == "c04" else "c04"
        party.receive({dealer: box for dealer, box in circle.inbox(name).items() if dealer != without})
    given, alive = drawn(circle.names), ["c00", "c01", "c02"]
    for name in alive:
        circle.parties[name].mask(given[name])
    assert len({circle.parties[name].sharers for name in alive}) == 1
    with pytest.raises(PrivacyError, match="'c04'"):
        circle.parties["c00"].vote(alive, ["c03", "c04"])
    vote = circle.parties["c04"].vote(["c00", "c01", "c02"], ["c04"])
    circle.parties["c00"].vote(alive, ["c03"])
    with pytest.raises(PrivacyError, match="'c04'"):
        circle.parties["c00"].check_vote("c04", vote)


def test_fewer_than_the_threshold_is_one_clear_error_at_every_stage(Circle: Circle) -> None:
    few = Circle.of(5, 4)
    with pytest.raises(PrivacyError, match="3 of 5 parties advertised keys, the threshold is 4"):
        few.advertise(["c01", "c02"]).share()
    with pytest.raises(PrivacyError, match="3 of 5 parties shared, the threshold is 4"):
        Circle.of(5, 4).advertise().share(["c01", "c02"]).receive()
    circle = Circle.of(5, 4).advertise().share().receive()
    circle.mask(drawn(circle.names), ["c01"])
    with pytest.raises(PrivacyError, match="3 of 5 parties sent a masked vector, the threshold is 4"):
        circle.vote(["c00", "c02", "c03"])
    votes = circle.vote(circle.masked)
    with pytest.raises(PrivacyError, match="3 of 5 parties voted for the survivors, the threshold is 4"):
        circle.parties["c00"].reveal({name: votes[name] for name in ("c00", "c02", "c03")})
    circle.reveal()
    with pytest.raises(PrivacyError, match="3 of 5 parties revealed their shares, the threshold is 4"):
        circle.parties["c00"].unmask(circle.total(), {name: circle.reveals[name] for name in ("c02", "c03")})


@pytest.mark.parametrize(
    ("count", "threshold", "reason"), [(5, 6, "above the number of parties"), (10, 5, "not more than half")]
)
def test_a_bad_threshold_is_refused_before_anything_is_drawn(count: int, threshold: int, reason: str) -> None:
    with pytest.raises(PrivacyError, match=reason):
        SecureSumParty("0", [str(index) for index in range(count)], threshold, b"", random=None)  # type: ignore[arg-type]
    with pytest.raises(PrivacyError, match="unknown party 'z'"):
        SecureSumParty("z", "abc", 3, b"")


def test_tampered_replayed_and_misaddressed_shares_are_refused_by_name(Circle: Circle) -> None:
    circle, before = Circle.of(5, 3).advertise().share(), Circle.of(5, 3, b"before").advertise().share()
    party, good = circle.parties["c00"], circle.inbox("c00")
    spoilt = bytearray(good["c02"])
    spoilt[40] ^= 1
    bad = [bytes(spoilt), before.sealed["c02"]["c00"], circle.sealed["c02"]["c01"], circle.sealed["c01"]["c00"], b""]
    for box in bad:
        with pytest.raises(PrivacyError, match="'c02' sent to 'c00' are invalid") as caught:
            party.receive({**good, "c02": box})
        assert caught.value.peers == ("c02",)
        assert isinstance(caught.value, MethodError)
    assert party.sharers == ()
    for stranger in ("c00", "zz"):
        with pytest.raises(PrivacyError, match=f"'{stranger}'"):
            party.receive({**good, stranger: good["c02"]})
    party.receive({name: box for name, box in good.items() if name != "c02"})
    assert party.sharers == ("c00", "c01", "c03", "c04")
    with pytest.raises(PrivacyError, match="other sharers"):
        party.receive(good)


def test_who_was_shown_other_keys_cannot_open_shares(Circle: Circle) -> None:
    circle, other = Circle.of(5, 3).advertise(), Circle.of(5, 3).advertise()
    lied_to = circle.parties["c00"].share({**circle.keys, "c01": other.keys["c01"]})
    honest = {name: circle.parties[name].share(circle.keys) for name in circle.names[1:]}
    with pytest.raises(PrivacyError, match="'c00' sent to 'c02'"):
        circle.parties["c02"].receive({"c00": lied_to["c02"], "c03": honest["c03"]["c02"]})
    with pytest.raises(PrivacyError, match="not those it advertised"):
        circle.parties["c03"].share({**circle.keys, "c03": other.keys["c03"]})
    with pytest.raises(PrivacyError, match="shared with other keys"):
        circle.parties["c00"].share(circle.keys)


def test_a_stage_happens_in_its_order_and_a_mask_once(Circle: Circle) -> None:
    circle = Circle.of(3, 3).advertise()
    party, vector = circle.parties["c00"], torch.zeros(3, dtype=torch.int32)
    early = [
        lambda: party.receive({}),
        lambda: party.mask(vector),
        lambda: party.vote(circle.names, []),
        lambda: party.check_vote("c01", b""),
        lambda: party.reveal({}),
        lambda: party.check_reveal("c01", b""),
        lambda: party.unmask(vector, {}),
    ]
    for call in early:
        with pytest.raises(PrivacyError, match="call the stages in order"):
            call()
    circle.share().receive()
    with pytest.raises(PrivacyError, match="not masked a vector"):
        party.vote(circle.names, [])
    with pytest.raises(PrivacyError, match="'c01'"):
        party.vote(["c00", "c01"], ["c01", "c02"])
    for bad in (torch.zeros(3), torch.zeros(0, dtype=torch.int32), torch.zeros(1, 1, dtype=torch.int32)):
        with pytest.raises(PrivacyError, match="expected int32"):
            party.mask(bad)
    party.mask(vector)
    assert vector.tolist() == [0, 0, 0]
    with pytest.raises(PrivacyError, match="already"):
        party.mask(vector)


def test_who_was_counted_as_dropped_masks_nothing_any_more_but_helps(Circle: Circle) -> None:
    circle = Circle.of(4, 3).advertise().share().receive()
    given = drawn(circle.names)
    circle.mask(given, lost=["c03"])
    late = circle.parties["c03"]
    votes = {**circle.vote(circle.masked), "c03": late.vote(circle.masked, ["c03"])}
    with pytest.raises(PrivacyError, match="counted as dropped"):
        late.mask(given["c03"])
    reveals = {name: circle.parties[name].reveal(votes) for name in ("c01", "c02", "c03")}
    exact = sum_masked({name: given[name] for name in circle.masked})
    assert torch.equal(late.unmask(circle.total(), reveals), exact)


def test_asked_again_a_party_says_the_same(Circle: Circle) -> None:
    circle = Circle.of(4, 3).advertise()
    party = circle.parties["c00"]
    assert party.advertise() == party.advertise()
    assert party.share(circle.keys) == party.share(dict(reversed(circle.keys.items())))
    circle.share().receive()
    party.receive(circle.inbox("c00"))


def test_everything_has_the_size_that_is_promised(whole: Circle) -> None:
    assert {len(keys) for keys in whole.keys.values()} == {KEYS_BYTES}
    assert {len(box) for boxes in whole.sealed.values() for box in boxes.values()} == {SEALED_BYTES}
    assert {len(vote) for vote in whole.vote(whole.masked).values()} == {VOTE_BYTES}
    assert {len(revealed) for revealed in whole.reveals.values()} == {reveal_bytes(5)}


def test_secrets_are_fresh_and_a_seed_is_marked(Circle: Circle) -> None:
    one, other = Circle.of(3, 3).advertise(), Circle.of(3, 3).advertise()
    assert not set(one.keys.values()) & set(other.keys.values())
    assert all(party.private for party in one.parties.values())
    seeded = [Circle.of(3, 3, random=SeededRandom(7)).advertise().share() for _ in range(2)]
    assert seeded[0].sealed == seeded[1].sealed
    assert not any(party.private for party in seeded[0].parties.values())


def test_nothing_secret_is_ever_shown(whole: Circle) -> None:
    party = whole.parties["c00"]
    text = " ".join(map(repr, (party, party._secrets, party._held, party._parties, party._agreement, party._keys)))
    with pytest.raises(PrivacyError) as caught:
        party.unmask(whole.total(), {"c01": whole.reveals["c01"], "c02": whole.reveals["c03"]})
    text += str(caught.value)
    secrets = party._secrets
    for secret in (secrets.seal, secrets.mask, secrets.sign, secrets.seed):
        assert secret.hex() not in text
        assert repr(secret) not in text
        assert str(int.from_bytes(secret, "big")) not in text
    for dealt in party._held.values():
        for share in dealt.values():
            assert str(share.value) not in text
            assert repr(share.signature) not in text
