"""Whom a node tells ZeroMQ to let in, whatever it is asked."""

from __future__ import annotations

import pytest

from nodes.transport.curve import DOMAIN, zap_reply


class TestVerdict:
    def request(self, *credentials: bytes, **changes: bytes) -> list[bytes]:
        said = {"version": b"1.0", "id": b"7", "domain": DOMAIN, "address": b"::1", "identity": b"", "how": b"CURVE"}
        return [*(said | changes).values(), *credentials]

    def test_a_known_key_gets_its_name(self) -> None:
        assert zap_reply(self.request(b"k" * 32), {b"k" * 32: "anna"}, lambda _name: True) == (
            [b"1.0", b"7", b"200", b"OK", b"anna", b""],
            "",
        )

    def test_a_known_key_beyond_its_budget_is_asked_to_come_later(self) -> None:
        reply, why = zap_reply(self.request(b"k" * 32), {b"k" * 32: "anna"}, lambda name: name != "anna")
        assert (reply, why) == ([b"1.0", b"7", b"300", b"later", b"", b""], "")

    @pytest.mark.parametrize("how", [b"NULL", b"PLAIN", b"GSSAPI"])
    def test_no_other_mechanism_is_good_enough(self, how: bytes) -> None:
        reply, why = zap_reply(self.request(b"k" * 32, how=how), {b"k" * 32: "anna"}, lambda _name: True)
        assert (reply[2], bool(why)) == (b"400", True)

    @pytest.mark.parametrize("cut", range(8))
    def test_whatever_is_asked_there_is_an_answer(self, cut: int) -> None:
        reply, why = zap_reply(self.request(b"j" * 32)[:cut], {b"k" * 32: "anna"}, lambda _name: True)
        assert (len(reply), reply[2], bool(why)) == (6, b"400", True)
