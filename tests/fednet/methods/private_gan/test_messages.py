"""Capabilities of sites, with how their pictures are protected."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from fednet.errors import MethodError
from fednet.methods.private_gan.messages import (
    PrivacyStatement,
    PrivateGanCapabilities,
    read_private_gan_capabilities,
)


def capabilities(**changes: object) -> str:
    values = {
        "classes": ("rows", "columns"), "shape": (1, 8, 8), "pictures": 20, "latent": 4,
        "privacy": PrivacyStatement(level="none", private=False),
    }  # fmt: skip
    return PrivateGanCapabilities.model_validate(values | changes).model_dump_json()


def test_sites_may_be_protected_differently() -> None:
    secret = PrivacyStatement(level="example", private=True, epsilon_rdp=1.5)
    read = read_private_gan_capabilities({"b": capabilities(), "a": capabilities(privacy=secret, pictures=3)})
    assert {name: one.privacy.private for name, one in read.items()} == {"a": True, "b": False}
    assert read["a"].privacy == secret


def test_a_statement_says_whether_it_is_private() -> None:
    with pytest.raises(ValidationError, match="private"):
        PrivacyStatement.model_validate({"level": "none"})


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        ({}, "no site answers"),
        ({"a1": "{}"}, "a1 has no capabilities"),
        ({"a1": capabilities(), "a2": capabilities(latent=5)}, "a2 and a1 differ in latent"),
        ({"a1": capabilities(), "a2": capabilities(shape=(3, 8, 8))}, "a2 and a1 differ in shape"),
    ],
)
def test_what_does_not_fit_is_refused(texts: dict[str, str], reason: str) -> None:
    with pytest.raises(MethodError, match=reason):
        read_private_gan_capabilities(texts)
