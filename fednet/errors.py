"""The errors of fednet, by who must act.

    MethodError            the computation cannot go on or a question cannot be answered
    +-- UnknownMethod      a method is not registered, or its module cannot be used (the operator must act)
    +-- UnknownRule        a rule is not registered, or its module cannot be used (the operator must act)
    +-- DataError          a data set is missing, malformed or does not fit (the operator must act)
    |   +-- UnknownDataset a data set is not registered, or its module cannot be used (the operator must act)
    |   +-- UnreadableImage a file holds no image that can be read (the operator must act)
    |   +-- UnknownClass   a configuration or a command names a class that no site has (the operator must act)
    +-- SolverError        an adaptive solver does not come to an end
    +-- ModelError         a model or checkpoint does not fit the configuration
    +-- MeasureError       a metric was given what it cannot measure (range, count, non-finite)
    +-- PrivacyError       a share, a key, a mask or a budget was refused; names the peers, never the secret

    UsageError             an argument of a command cannot be used (the operator must act)
    DiskFull               a disk has no room for what is to be written (the operator must act)

Every message names what was given, what was expected and what to do.
"""

from __future__ import annotations

from fednet.text import plain_text


class MethodError(Exception):
    """A method cannot carry out a task or answer a question."""


class UnknownMethod(MethodError):
    """A method is not registered, or its module cannot be used.

    Attributes:
        name: the requested name.
        reason: why it cannot be used.
        known: the registered methods, where the name is not one of them.
    """

    def __init__(self, name: str, reason: str, known: tuple[str, ...] = ()) -> None:
        super().__init__(f"unknown method {name!r}: {reason}")
        self.name, self.reason, self.known = name, reason, known


class UnknownRule(MethodError):
    """A rule is not registered, cannot do what is asked of it, or its module cannot be used.

    Attributes:
        name: the requested name.
        reason: why it cannot be used.
        known: the rules that could be meant, where the name is not one of them.
    """

    def __init__(self, name: str, reason: str, known: tuple[str, ...] = ()) -> None:
        super().__init__(f"unknown rule {name!r}: {reason}")
        self.name, self.reason, self.known = name, reason, known


class DataError(MethodError):
    """A data set is missing, malformed or does not fit."""


class UnknownDataset(DataError):
    """A data set is not registered, or its module cannot be used.

    Attributes:
        name: what was asked for.
        reason: why it cannot be used.
        known: the registered data sets, where the name is not among them.
    """

    def __init__(self, name: str, reason: str, known: tuple[str, ...] = ()) -> None:
        super().__init__(f"unknown data set {name!r}: {reason}")
        self.name, self.reason, self.known = name, reason, known


class UnreadableImage(DataError):
    """A file holds no image that can be read.

    Attributes:
        path: the file, or what it is called.
        reason: why not, as its decoder says.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{plain_text(path)} is not a readable image: {reason}")
        self.path, self.reason = path, reason


class SolverError(MethodError):
    """An adaptive solver does not come to an end: its steps become too small or too many."""


class UnknownClass(DataError):
    """A class is named that the run does not have.

    Attributes:
        where: the key or option that names it.
        name: the name.
    """

    def __init__(self, where: str, name: str, known: str) -> None:
        super().__init__(f"{where} names the class {name!r}; the classes are {known}")
        self.where, self.name = where, name


class ModelError(MethodError):
    """A model or a checkpoint does not fit the configuration."""


class MeasureError(MethodError):
    """A metric's input is invalid (range, count, non-finite)."""


class PrivacyError(MethodError):
    """A share, a key, a mask or a privacy budget was refused.

    Attributes:
        peers: the peers at fault, whose exclusion may help; () if none is.
    """

    def __init__(self, message: str, peers: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.peers = peers


class UsageError(Exception):
    """An argument of a command cannot be used.

    Attributes:
        argument: the argument, as the operator gave it (`--labels 3-1`).
        expected: what would have been right, as the end of "expected ..."; empty where `hint` says it all.
        given: what was there instead; empty where `argument` shows it.
        hint: whole sentences that say what is wrong or what to do; may be empty.
    """

    def __init__(self, argument: str, expected: str = "", given: str = "", hint: str = "") -> None:
        fault = f"expected {expected}{f', got {given}' if given else ''}." if expected else ""
        super().__init__(f"{argument}: " + " ".join(filter(None, (fault, hint))))
        self.argument, self.expected, self.given, self.hint = argument, expected, given, hint


class DiskFull(Exception):
    """A disk has no room for what is to be written; what was whole before is whole still.

    Attributes:
        path: what was to be written; empty where that is not known.
    """

    def __init__(self, path: str = "") -> None:
        super().__init__(f"the disk is full{f', {path} cannot be written' if path else ''}: make room, or use another")
        self.path = path
