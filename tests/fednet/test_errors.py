"""All errors are in the documented tree, and carry what a caller acts on."""

from __future__ import annotations

import inspect

from fednet import errors
from fednet.errors import DiskFull, MethodError, PrivacyError, UnknownMethod, UsageError


def test_every_error_is_in_the_documented_tree() -> None:
    classes = dict(inspect.getmembers(errors, inspect.isclass))
    assert {each for each in classes.values() if not issubclass(each, MethodError)} == {DiskFull, UsageError}
    assert all(name in (errors.__doc__ or "") for name in classes)


def test_errors_carry_their_fields() -> None:
    unknown = UnknownMethod("x", "expected one of a, b", known=("a", "b"))
    assert str(unknown) == "unknown method 'x': expected one of a, b"
    assert (unknown.name, unknown.reason, unknown.known) == ("x", "expected one of a, b", ("a", "b"))
    assert PrivacyError("a false share", ("a1",)).peers == ("a1",)
    assert PrivacyError("no budget").peers == ()
