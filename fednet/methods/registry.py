"""Finds methods: by name in the entry-point group `fednet.methods`, or by the path of a module.

The built-in methods are registered in the same group, by the distribution's own metadata.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec

from fednet.errors import UnknownMethod
from fednet.methods.contract import Method

GROUP = "fednet.methods"
ATTRIBUTE = "METHOD"
"""The name of the value in a method's module."""


def names() -> tuple[str, ...]:
    """The registered methods in alphabetical order; imports none of them."""
    return tuple(sorted(entry_points(group=GROUP).names))


@cache
def find(name: str) -> Method:
    """The method of this name.

    Args:
        name: a registered name (`novelty`), or the path of a module that defines `METHOD` (`my_package.my_module`).

    Raises:
        UnknownMethod: nothing is registered under the name, its module cannot be imported (with the import's own
            message), or it defines no `Method`.
    """
    registered = tuple(entry_points(group=GROUP, name=name))
    if registered:
        where = registered[0].value
    elif "." in name:
        where = f"{name}:{ATTRIBUTE}"
    else:
        raise UnknownMethod(name, f"expected one of {', '.join(names())}, or the path of a module", names())
    return _loaded(name, where)


def require_installed(method: Method) -> None:
    """Refuses a method whose libraries are not installed; imports none of them.

    Raises:
        UnknownMethod: some are missing; the message names the extra that installs them.
    """
    missing = [module for module in method.requires if find_spec(module) is None]
    if missing:
        needed = f"it needs {', '.join(missing)}, not installed here: pip install '{method.extra}'"
        raise UnknownMethod(method.name, needed)


def _loaded(name: str, where: str) -> Method:
    try:
        value = EntryPoint(name, where, GROUP).load()
    except Exception as error:  # a foreign module may raise anything while it is imported
        raise UnknownMethod(name, f"importing {where} failed: {type(error).__name__}: {error}") from error
    if not isinstance(value, Method):
        raise UnknownMethod(name, f"{where} is a {type(value).__name__}; expected a fednet.methods.contract.Method")
    return value
