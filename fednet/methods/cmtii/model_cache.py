"""What is made once and used by all sites of a machine: one of them makes it, the others wait and read it.

A thing is named by the digest of all that decides it, so another configuration makes another file. A lock of the
operating system says whose turn it is; it falls with the process that holds it. Sites on other machines have stores
of their own and make the thing themselves; whether they got the same is for them to compare. Knows no model.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save

from fednet.api import ModelState, Progress
from fednet.errors import ModelError
from fednet.federated.state import detached_copy
from fednet.files import write_whole

POLL_SECONDS = 0.2
"""Seconds between two looks at whether it is one's turn."""


def cache_key(terms: Mapping[str, object]) -> str:
    """Twelve hexadecimal digits for what decides a thing, anything that JSON can say."""
    return hashlib.blake2b(json.dumps(terms, sort_keys=True).encode(), digest_size=6).hexdigest()


class ModelCache:
    """States in a folder.

    Args:
        folder: where they lie; it need not be there.
        progress: hears that somebody waits, and may end the waiting.
    """

    def __init__(self, folder: Path, progress: Progress) -> None:
        self._folder, self._progress = folder, progress

    def once(self, name: str, make: Callable[[], ModelState]) -> ModelState:
        """The state of a name; made now where no process has made it yet.

        Raises:
            ModelError: the file is damaged.
            Stopped: `progress` asks for the end.
        """
        path = self._folder / f"{name}.safetensors"
        if not path.is_file():
            with self._turn(name):
                if not path.is_file():
                    write_whole(path, save(detached_copy(make())))
        try:
            return load(path.read_bytes())
        except SafetensorError as error:
            raise ModelError(f"{path} is damaged ({error}): remove it, so that it is made again") from error

    @contextmanager
    def _turn(self, name: str) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / f"{name}.lock").open("w") as file:
            while not _try_lock(file.fileno()):
                self._progress.report(f"waiting for {name.rsplit('-', 1)[0]}", 0, 1)
                time.sleep(POLL_SECONDS)
            yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
