"""Finds values of other packages: by name in an entry-point group, or by the path of a module that defines them.

The built-in methods and data sets are registered in the same groups, by the distribution's own metadata.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pkgutil import resolve_name
from typing import Any, Generic, TypeVar

from fednet.text import plain_text

T = TypeVar("T")

UnknownError = Callable[[str, str, tuple[str, ...]], Exception]
"""Makes an error of a name, the reason, and the registered names where the name is not among them."""


class PluginRegistry(Generic[T]):
    """The values of one kind; each is imported when it is asked for, and once.

    Args:
        group: the entry-point group.
        attribute: the name of the value in a module that is given by its path.
        kind: the type of the values.
        unknown: the error of a name that has no usable value.
    """

    def __init__(self, group: str, attribute: str, kind: type[T], unknown: UnknownError) -> None:
        self.group, self.attribute = group, attribute
        self._kind, self._unknown = kind, unknown
        self._loaded: dict[str, T] = {}

    def names(self) -> tuple[str, ...]:
        """The registered names in alphabetical order; imports nothing."""
        return tuple(sorted(self._locations))

    def find(self, name: str) -> T:
        """The value of a registered name (`novelty`), or of a module that defines it (`my_package.my_module`).

        Raises:
            Exception: an `unknown` error: nothing is registered under the name, its module cannot be imported (with
                the import's own message), or what it defines is of another type.
        """
        if name not in self._loaded:
            self._loaded[name] = self._load(name, self._location(name))
        return self._loaded[name]

    def known(self, name: str) -> T:
        """The same of a name that comes from outside this process, for which no module is imported by its path.

        Raises:
            Exception: an `unknown` error: it is not registered, and `find` has not been asked for it before.
        """
        if name not in self._loaded and name not in self._locations:
            raise self._unknown(name, "it is not registered here, and no configuration of this process names it", ())
        return self.find(name)

    @cached_property
    def _locations(self) -> dict[str, str]:
        """Where the registered values are defined; read once, since every distribution's metadata is looked through."""
        return {point.name: point.value for point in reversed(tuple(entry_points(group=self.group)))}

    def _location(self, name: str) -> str:
        if name in self._locations:
            return self._locations[name]
        if "." in name:
            return f"{name}:{self.attribute}"
        known = self.names()
        raise self._unknown(name, f"expected one of {', '.join(known)}, or the path of a module (a.b)", known)

    def _load(self, name: str, location: str) -> T:
        try:
            value = EntryPoint(name, location, self.group).load()
        except Exception as error:  # a foreign module may raise anything while it is imported
            reason = plain_text(f"importing {location} failed: {type(error).__name__}: {error}")
            raise self._unknown(name, reason, ()) from error
        if not isinstance(value, self._kind):
            expected = f"{self._kind.__module__}.{self._kind.__qualname__}"
            raise self._unknown(name, f"{location} is a {type(value).__name__}; expected a {expected}", ())
        return value


def lazily(place: str) -> Callable[..., Any]:
    """The function at a place (`a.module:function`), imported when it is called: a table of such imports nothing."""
    return partial(_call, place)


def _call(place: str, /, *args: Any, **kwargs: Any) -> Any:
    return resolve_name(place)(*args, **kwargs)


def missing_modules(modules: Sequence[str]) -> list[str]:
    """Those top-level modules that are not installed; imports none."""
    return [module for module in modules if find_spec(module) is None]
