"""The errors of fednet, by who must act.

    MethodError            the computation cannot go on or a question cannot be answered
    +-- UnknownMethod      a method is not registered, or its module cannot be used (the operator must act)
    +-- DataError          a data set is missing, malformed or does not fit (the operator must act)
    +-- ModelError         a model or checkpoint does not fit the configuration
    +-- MeasureError       a metric was given what it cannot measure (range, count, non-finite)
    +-- PrivacyError       a share, a key or a budget was refused; it names whose, and tells nothing of it

Every message names what was given, what was expected and what to do.
"""

from __future__ import annotations


class MethodError(Exception):
    """A method cannot do what it was asked."""


class UnknownMethod(MethodError):
    """A method is not registered, or its module cannot be used.

    Attributes:
        name: what was asked for.
        reason: why it cannot be used.
        known: the registered methods, where the name is not among them.
    """

    def __init__(self, name: str, reason: str, known: tuple[str, ...] = ()) -> None:
        super().__init__(f"unknown method {name!r}: {reason}")
        self.name, self.reason, self.known = name, reason, known


class DataError(MethodError):
    """A data set is missing, malformed or does not fit."""


class ModelError(MethodError):
    """A model or a checkpoint does not fit the configuration."""


class MeasureError(MethodError):
    """A metric was given something that it cannot measure."""


class PrivacyError(MethodError):
    """A share, a key, a mask or a privacy budget was refused.

    Attributes:
        peers: whose; leaving them out may help. Empty where nobody is to blame.
    """

    def __init__(self, message: str, peers: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.peers = peers
