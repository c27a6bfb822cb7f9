"""A cache of models on disk: one site of a machine trains a model, the others wait and read its file.

A file is named by the digest of everything that determines the model, so another configuration makes another file. The
operating system's file lock serialises the sites, and is released when its process ends. Sites on other machines have
caches of their own and train the model themselves; they compare digests. Knows no model.
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
from fednet.files import make_folder, write_whole

POLL_SECONDS = 0.2
"""Seconds between two attempts to take the lock."""


def cache_key(terms: Mapping[str, object]) -> str:
    """Twelve hexadecimal digits, the digest of values that JSON can represent."""
    return hashlib.blake2b(json.dumps(terms, sort_keys=True).encode(), digest_size=6).hexdigest()


class ModelCache:
    """States in a folder.

    Args:
        folder: created when it is missing.
        progress: told of waiting; may end it.
    """

    def __init__(self, folder: Path, progress: Progress) -> None:
        self._folder, self._progress = folder, progress

    def once(self, name: str, make: Callable[[], ModelState]) -> ModelState:
        """The state of a name; made now unless a process has made it already.

        Raises:
            ModelError: the file is damaged.
            Stopped: `progress` asks for the end.
        """
        path = self._folder / f"{name}.safetensors"
        if not path.is_file():
            with self._exclusive(name):
                if not path.is_file():
                    write_whole(path, save(detached_copy(make())))
        try:
            return load(path.read_bytes())
        except SafetensorError as error:
            raise ModelError(f"{path} is damaged ({error}): remove it, so that it is made again") from error

    @contextmanager
    def _exclusive(self, name: str) -> Iterator[None]:
        make_folder(self._folder)
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
