"""A folder of keys as nodes and their operators read it: an operator's own, and in `trusted/` those of others.

`NAME.key` lies beside `NAME.pub`; a private file is readable by its owner alone, and whoever can write to the folder is
trusted, so that not everybody may. A statement in `trusted/` is signed by the owner of its keys, or by one of the
operator's own. What keys are is defined by `protocol.security.keys`; here they are found, read and refused.
"""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime
from pathlib import Path

from nodes.errors import KeyFileError
from protocol.errors import KeyFormatError
from protocol.security.keys import MAX_KEY_TEXT_BYTES, Keyring, PrivateKeys, PublicKeys, read_private, read_public

PRIVATE, PUBLIC, TRUSTED = ".key", ".pub", "trusted"
_OTHERS_PERMISSIONS = stat.S_IRWXG | stat.S_IRWXO


def read_keyring(file: Path) -> Keyring:
    """A node's identity from its private file, and the keys that it trusts today from the folder around it.

    Raises:
        KeyFileError: there is no such file, others may read it, or the folder contradicts itself.
    """
    private = read_private_file(file)
    folder = file.parent
    try:
        ring = Keyring.of(private, [*own_keys(folder), *trusted_keys(folder)], file)
        return ring.current(datetime.now(UTC).date())
    except KeyFormatError as fault:
        raise KeyFileError(folder, hint=f"The keys contradict each other: {fault}.") from fault


def own_keys(folder: Path) -> list[PublicKeys]:
    """The public halves of the keys whose private ones lie in a folder, by name.

    Raises:
        KeyFileError: one of the files is no key, or everybody can write to it or to the folder.
    """
    _require_guarded(folder)
    return [_read_guarded(path.with_suffix(PUBLIC)) for path in sorted(folder.glob(f"*{PRIVATE}"))]


def trusted_keys(folder: Path) -> list[PublicKeys]:
    """Those of others that are trusted in a folder, by name.

    Raises:
        KeyFileError: one of the files is no key, or says another name than it has or is signed by somebody else, or
            everybody can write there.
    """
    _require_guarded(folder / TRUSTED)
    signers = {public.name: public for public in own_keys(folder)}
    return [_require_ours(_read_guarded(path), path, signers) for path in sorted((folder / TRUSTED).glob(f"*{PUBLIC}"))]


def read_public_file(path: Path) -> PublicKeys:
    """The statement in a public file.

    Raises:
        KeyFileError: there is none.
    """
    try:
        return read_public(_bytes(path))
    except KeyFormatError as fault:
        raise KeyFileError(path, "a public file made by `fednet keys new`", hint=f"{fault}.") from fault


def read_private_file(path: Path) -> PrivateKeys:
    """The keys in a private file.

    Raises:
        KeyFileError: there are none, others may read it, or its public file is another's.
    """
    content, mode = _bytes(path), path.stat().st_mode
    if mode & _OTHERS_PERMISSIONS:
        hint = f"chmod 600 {path}"
        raise KeyFileError(path, "a file that its owner alone can read", stat.filemode(mode), hint)
    try:
        private = read_private(content)
    except KeyFormatError as fault:
        raise KeyFileError(path, "a private file made by `fednet keys new`", hint=f"{fault}.") from fault
    if private.public != read_public_file(path.with_suffix(PUBLIC)):
        hint = "They were made at different times, or one of them was changed."
        raise KeyFileError(path, f"the other half of {path.with_suffix(PUBLIC).name}", hint=hint)
    return private


def _require_ours(public: PublicKeys, path: Path, signers: dict[str, PublicKeys]) -> PublicKeys:
    if public.name != path.stem:
        raise KeyFileError(path, f"the keys of {path.stem}", f"those of {public.name}")
    if public.signed_by and not (public.signed_by in signers and public.is_signed_by(signers[public.signed_by])):
        expected = f"a statement that {public.name} has signed, or one whose private keys lie in {path.parent.parent}"
        raise KeyFileError(path, expected, f"one of {public.signed_by}", "`fednet keys trust` it anew.")
    return public


def _read_guarded(path: Path) -> PublicKeys:
    _require_guarded(path)
    return read_public_file(path)


def _require_guarded(path: Path) -> None:
    """Refuses what every user of this machine could change: whoever writes there is trusted."""
    mode = path.stat().st_mode if path.exists() else 0
    if mode & stat.S_IWOTH and not os.statvfs(path).f_flag & os.ST_RDONLY:
        expected = "a file or folder that not everybody can write to, since all keys in it are trusted"
        raise KeyFileError(path, expected, stat.filemode(mode), f"chmod o-w {path}")


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_KEY_TEXT_BYTES + 1)
    except OSError as error:
        hint = f"`fednet keys new {path.stem} --folder {path.parent}` makes keys." if path.suffix == PRIVATE else ""
        raise KeyFileError(path, "a file with keys", error.strerror or str(error), hint) from error
