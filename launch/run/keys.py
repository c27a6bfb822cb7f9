"""Keys as files: a folder holds an operator's own, `NAME.key` beside `NAME.pub`, and in `trusted/` those of others.

A private file is readable by its owner alone and is never written over. To trust somebody is to put the public file
that one handed over into `trusted/`; who signs or connects with any other key is refused. Compare fingerprints by a way
that nobody can tamper with, since the sender of the file could also send another. What keys are is defined by
`protocol.security.keys`; here they are found, made and refused.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from fednet.files import make_folder, write_whole
from launch.errors import ConfigError, ConfigProblem
from protocol.errors import KeyFormatError
from protocol.security.keys import MAX_KEY_TEXT_BYTES, Keyring, PrivateKeys, PublicKeys, read_private, read_public

PRIVATE, PUBLIC, TRUSTED = ".key", ".pub", "trusted"
_OTHERS_PERMISSIONS = stat.S_IRWXG | stat.S_IRWXO


def create_keys(name: str, folder: Path, *, relay: bool = False) -> PublicKeys:
    """Makes the keys of a node, or of a relay: `folder/NAME.key` and `folder/NAME.pub`.

    Raises:
        ConfigError: no node may be called this, there is such a key already, or it cannot be written.
    """
    try:
        keys = PrivateKeys.make(name, relay=relay)
    except KeyFormatError as fault:
        raise ConfigError(
            ConfigProblem("NAME", "up to 32 of a-z 0-9 _ -, a letter or digit first", repr(name))
        ) from fault
    path = folder / f"{name}{PRIVATE}"
    try:
        make_folder(folder)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(keys.text())
        write_whole(path.with_suffix(PUBLIC), keys.public.text().encode(), shared=True)
    except FileExistsError:
        hint = "Keys are never overwritten: peers that trust the old one would refuse the new one."
        raise ConfigError(ConfigProblem(str(path), "a name without keys", hint=hint)) from None
    except OSError as error:
        raise ConfigError(
            ConfigProblem(str(path), "a folder that can be written", error.strerror or str(error))
        ) from error
    return keys.public


def trust_keys(file: Path, folder: Path, *, replace: bool = False) -> PublicKeys:
    """Trusts a public key file.

    Args:
        file: what that one handed over.
        folder: the operator's own.
        replace: whether it may take the place of other keys of the same name.

    Raises:
        ConfigError: it holds no public keys, or the name has others here already.
    """
    public = _read_public(file)
    known = {each.name: each for each in [*trusted_keys(folder), *own_keys(folder)]}.get(public.name)
    if known is not None and known != public and not replace:
        hint = f"If {public.name} has made new keys, compare the fingerprint and say --replace."
        expected = f"the keys that {public.name} is known by here, {known.fingerprint}"
        raise ConfigError(ConfigProblem(str(file), expected, public.fingerprint, hint=hint))
    try:
        write_whole(folder / TRUSTED / f"{public.name}{PUBLIC}", public.text().encode())
    except OSError as error:
        raise ConfigError(
            ConfigProblem(str(folder), "a folder that can be written", error.strerror or str(error))
        ) from error
    return public


def own_keys(folder: Path) -> list[PublicKeys]:
    """The public halves of the keys whose private ones lie in a folder, by name.

    Raises:
        ConfigError: one of the files is no key, or everybody can write to it or to the folder.
    """
    _require_guarded(folder)
    return [_read_guarded(path.with_suffix(PUBLIC)) for path in sorted(folder.glob(f"*{PRIVATE}"))]


def trusted_keys(folder: Path) -> list[PublicKeys]:
    """Those of others that are trusted in a folder, by name.

    Raises:
        ConfigError: one of the files is no key, or says another name than it has, or everybody can write there.
    """
    _require_guarded(folder / TRUSTED)
    return [_require_name(_read_guarded(path), path) for path in sorted((folder / TRUSTED).glob(f"*{PUBLIC}"))]


def find_keys(name: str, folder: Path) -> PublicKeys:
    """The public keys of a name, own or trusted.

    Raises:
        ConfigError: there are none here.
    """
    known = {public.name: public for public in [*trusted_keys(folder), *own_keys(folder)]}
    if name not in known:
        raise ConfigError(
            ConfigProblem("NAME", f"a name with keys in {folder} ({', '.join(known) or 'none'})", repr(name))
        )
    return known[name]


def load_keyring(path: Path) -> Keyring:
    """A node's identity from its private file, and the keys that it trusts from the folder around it.

    Raises:
        ConfigError: there is no such file, others may read it, or the folder contradicts itself.
    """
    private = _read_private(path)
    try:
        return Keyring.of(private, [*own_keys(path.parent), *trusted_keys(path.parent)])
    except KeyFormatError as fault:
        raise ConfigError(ConfigProblem(str(path.parent), hint=f"The keys contradict each other: {fault}.")) from fault


def node_keyring(name: str, folder: Path) -> Keyring:
    """The keyring of a node that is called by its name; see `keyring`."""
    return load_keyring(folder / f"{name}{PRIVATE}")


def ensure_keyrings(names: Iterable[str], folder: Path) -> dict[str, Keyring]:
    """The keyrings of nodes that one operator starts on one machine; keys that do not exist yet are made.

    Raises:
        ConfigError: keys cannot be made or read.
    """
    names = tuple(names)
    for name in names:
        if not (folder / f"{name}{PRIVATE}").exists():
            create_keys(name, folder)
    return {name: node_keyring(name, folder) for name in names}


def require_agreement(ring: Keyring, fingerprints: Mapping[str, str]) -> None:
    """Refuses keys that are not those that a configuration names.

    Args:
        ring: a node's own keys and those it trusts.
        fingerprints: what the configuration says, by name.

    Raises:
        ConfigError: some have another fingerprint; names each.
    """
    faults = [
        ConfigProblem(
            f"nodes.{name}.fingerprint", wanted, ring.trusted[name].fingerprint, hint=f"Which keys are {name}'s?"
        )
        for name, wanted in fingerprints.items()
        if name in ring.trusted and ring.trusted[name].fingerprint != wanted
    ]
    if faults:
        raise ConfigError(*faults)


def _require_name(public: PublicKeys, path: Path) -> PublicKeys:
    if public.name != path.stem:
        raise ConfigError(ConfigProblem(str(path), f"the keys of {path.stem}", f"those of {public.name}"))
    return public


def _read_guarded(path: Path) -> PublicKeys:
    _require_guarded(path)
    return _read_public(path)


def _require_guarded(path: Path) -> None:
    """Refuses what every user of this machine could change: whoever writes there is trusted."""
    mode = path.stat().st_mode if path.exists() else 0
    if mode & stat.S_IWOTH and not os.statvfs(path).f_flag & os.ST_RDONLY:
        expected = "a file or folder that not everybody can write to, since all keys in it are trusted"
        raise ConfigError(ConfigProblem(str(path), expected, stat.filemode(mode), hint=f"chmod o-w {path}"))


def _read_public(path: Path) -> PublicKeys:
    try:
        return read_public(_bytes(path))
    except KeyFormatError as fault:
        raise ConfigError(
            ConfigProblem(str(path), "a public file made by `fednet keys new`", hint=f"{fault}.")
        ) from fault


def _read_private(path: Path) -> PrivateKeys:
    content = _bytes(path)
    if path.stat().st_mode & _OTHERS_PERMISSIONS:
        mode = stat.filemode(path.stat().st_mode)
        raise ConfigError(
            ConfigProblem(str(path), "a file that its owner alone can read", mode, hint=f"chmod 600 {path}")
        )
    try:
        private = read_private(content)
    except KeyFormatError as fault:
        raise ConfigError(
            ConfigProblem(str(path), "a private file made by `fednet keys new`", hint=f"{fault}.")
        ) from fault
    if private.public != _read_public(path.with_suffix(PUBLIC)):
        hint = "They were made at different times, or one of them was changed."
        raise ConfigError(ConfigProblem(str(path), f"the other half of {path.with_suffix(PUBLIC).name}", hint=hint))
    return private


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_KEY_TEXT_BYTES + 1)
    except OSError as error:
        hint = f"`fednet keys new {path.stem} --folder {path.parent}` makes keys." if path.suffix == PRIVATE else ""
        raise ConfigError(
            ConfigProblem(str(path), "a file with keys", error.strerror or str(error), hint=hint)
        ) from error
