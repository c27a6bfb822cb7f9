"""Finds methods: by name in the entry-point group `fednet.methods`, or by the path of a module with a `METHOD`."""

from __future__ import annotations

from fednet.errors import UnknownMethod
from fednet.methods.contract import Method
from fednet.plugins import PluginRegistry, missing_modules

_METHODS = PluginRegistry("fednet.methods", "METHOD", Method, UnknownMethod)


def names() -> tuple[str, ...]:
    """The registered methods in alphabetical order; imports none of them."""
    return _METHODS.names()


def find(name: str) -> Method:
    """The method of this name.

    Args:
        name: a registered name (`novelty`), or the path of a module that defines `METHOD` (`my_package.my_module`).

    Raises:
        UnknownMethod: nothing is registered under the name, its module cannot be imported (with the import's own
            message), or it defines no `Method`.
    """
    return _METHODS.find(name)


def require_installed(method: Method) -> None:
    """Refuses a method whose libraries are not installed; imports none of them.

    Raises:
        UnknownMethod: some are missing; the message names the extra that installs them.
    """
    if missing := missing_modules(method.requires):
        needed = f"it needs {', '.join(missing)}, not installed here: pip install '{method.extra}'"
        raise UnknownMethod(method.name, needed)
