"""Keys as an operator handles them: made, trusted as one role until one day, found, and revoked.

To trust somebody is to put its public file into `trusted/`; who signs or connects with any other key is refused.
Compare fingerprints by a way that nobody can tamper with, since the sender of the file could also send another. How a
folder is read is `nodes.key_folder`'s; here its errors become the operator's, and files are written and removed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from fednet.files import make_folder, write_whole
from launch.errors import ConfigError, ConfigProblem
from nodes import key_folder
from nodes.errors import KeyFileError
from nodes.key_folder import PRIVATE, PUBLIC, TRUSTED
from protocol.errors import KeyFormatError
from protocol.security.key_roles import RIGHTS, KeyRole, Right
from protocol.security.keys import Keyring, PrivateKeys, PublicKeys
from protocol.topics import is_name

REVOKED = "revoked"
"""The folder of the statements that are trusted no more."""


@dataclass(frozen=True)
class Grant:
    """What somebody is let in as, whatever its own statement says.

    Attributes:
        role: None for that of its statement.
        may: what a guest may do; None for what its statement says.
        not_after: the last day (UTC).
    """

    role: KeyRole | None = None
    may: Sequence[Right] | None = None
    not_after: date | None = None

    def of(self, public: PublicKeys, by: PrivateKeys) -> PublicKeys:
        """The statement that grants this.

        Raises:
            KeyFormatError: the role has no such rights.
        """
        role = self.role or public.role
        unchanged = public.may if role == public.role else ()
        return public.granted(by, role, unchanged if self.may is None else self.may, self.not_after)


def create_keys(name: str, folder: Path, role: KeyRole = "client", may: Sequence[Right] = ()) -> PublicKeys:
    """Makes the keys of a node, or of a relay: `folder/NAME.key` and `folder/NAME.pub`.

    Raises:
        ConfigError: no node may be called this, there is such a key already, the role has no such rights, or it cannot
            be written.
    """
    try:
        keys = PrivateKeys.make(name, role, may)
    except KeyFormatError as fault:
        if "role" in fault.fields:
            raise ConfigError(ConfigProblem("--may", "the role guest", role)) from fault
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


def trust_keys(file: Path, folder: Path, grant: Grant | None = None, *, replace: bool = False) -> PublicKeys:
    """Trusts a public key file.

    Args:
        file: what its owner handed over.
        folder: the operator's own.
        grant: what its owner is let in as; None: as its statement says. It is signed with a key of the folder.
        replace: whether it may take the place of another statement about the same name.

    Raises:
        ConfigError: it holds no public keys, the name has others here already, or there is no key to sign a grant with.
    """
    if file.suffix == PRIVATE and file.is_file():
        hint = "A private file never leaves the machine of its owner: make other keys (`fednet keys new`) where it has."
        raise ConfigError(
            ConfigProblem(str(file), f"the public file, {file.stem}{PUBLIC}", "the private one", hint=hint)
        )
    with _operators():
        public = key_folder.read_public_file(file)
        own = {each.name: each for each in key_folder.own_keys(folder)}
    if public.signed_by:
        expected = f"the statement of {public.name} itself"
        raise ConfigError(ConfigProblem(str(file), expected, f"what {public.signed_by} lets it in as"))
    if grant is not None:
        public = _granted(public, grant, folder, own)
    revoked = folder / REVOKED / f"{public.name}{PUBLIC}"
    with _operators():
        if revoked.is_file() and key_folder.read_public_file(revoked).same_keys(public) and not replace:
            expected, hint = "keys that were not revoked here", "Say --replace to trust them all the same."
            raise ConfigError(ConfigProblem(str(file), expected, public.fingerprint, hint=hint))
    known = own.get(public.name) or {each.name: each for each in trusted_keys(folder)}.get(public.name)
    if known is not None and known != public and not replace:
        raise ConfigError(_other_statement(file, known, public))
    try:
        write_whole(folder / TRUSTED / f"{public.name}{PUBLIC}", public.text().encode())
        revoked.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(
            ConfigProblem(str(folder), "a folder that can be written", error.strerror or str(error))
        ) from error
    return public


def revoke_keys(name: str, folder: Path) -> None:
    """Trusts a name no more: nodes that run with keys of this folder end its connections within seconds.

    Its statement is kept beside the trusted ones, so that the same keys are not trusted again by mistake.

    Raises:
        ConfigError: it is not trusted here, or is the operator's own; or it is trusted no more, and the nodes cannot
            read the folder, so that they go on as before.
    """
    path = folder / TRUSTED / f"{name}{PUBLIC}"
    if not is_name(name) or not path.is_file():
        own = is_name(name) and (folder / f"{name}{PRIVATE}").exists()
        known = ", ".join(public.name for public in trusted_keys(folder)) or "none"
        hint = f"It is your own: remove {name}{PRIVATE} and {name}{PUBLIC} from {folder}." if own else ""
        raise ConfigError(ConfigProblem("NAME", f"a name that is trusted in {folder} ({known})", repr(name), hint=hint))
    try:
        make_folder(folder / REVOKED)
        path.replace(folder / REVOKED / path.name)
    except OSError as error:
        raise ConfigError(
            ConfigProblem(str(folder), "a folder that can be written", error.strerror or str(error))
        ) from error
    trusted_keys(folder)


def _granted(public: PublicKeys, grant: Grant, folder: Path, own: Mapping[str, PublicKeys]) -> PublicKeys:
    signers = [name for name, each in own.items() if not each.relay] or list(own)
    if not signers:
        hint = f"`fednet keys new NAME --folder {folder}` makes one, with which the grant is signed."
        raise ConfigError(ConfigProblem(str(folder), "a folder with a key of your own", "none", hint=hint))
    with _operators():
        signer = key_folder.read_private_file(folder / f"{signers[0]}{PRIVATE}")
    try:
        return grant.of(public, signer)
    except KeyFormatError as fault:
        raise ConfigError(ConfigProblem("--role, --may", hint=f"{fault}.")) from fault


def _other_statement(file: Path, known: PublicKeys, given: PublicKeys) -> ConfigProblem:
    name = known.name
    if known.fingerprint != given.fingerprint:
        hint = f"If {name} has made new keys, compare the fingerprint and say --replace."
        expected = f"the keys that {name} is known by here, {known.fingerprint}"
        return ConfigProblem(str(file), expected, given.fingerprint, hint=hint)
    expected = f"what {name} is let in as here: {describe(known)}"
    return ConfigProblem(str(file), expected, describe(given), hint="Say --replace to change it.")


def rights(text: str) -> tuple[Right, ...]:
    """What a guest may do, as the command line writes it: `ask,rounds`.

    Raises:
        ConfigError: something else stands there.
    """
    known: dict[str, Right] = {right: right for right in RIGHTS}
    words = [word.strip() for word in text.split(",") if word.strip()]
    if unknown := [word for word in words if word not in known]:
        raise ConfigError(ConfigProblem("--may", f"some of {','.join(RIGHTS)}", ",".join(unknown)))
    return tuple(known[word] for word in words)


def describe(public: PublicKeys) -> str:
    """What keys are trusted for, in words: `guest who may ask, until 2027-01-31`."""
    rights = f" who may {', '.join(public.may) or 'only listen'}" if public.role == "guest" else ""
    return f"{public.role}{rights}" + (f", until {public.not_after}" if public.not_after else "")


def own_keys(folder: Path) -> list[PublicKeys]:
    """The public halves of the keys whose private ones lie in a folder, by name.

    Raises:
        ConfigError: one of the files is no key, or everybody can write to it or to the folder.
    """
    with _operators():
        return key_folder.own_keys(folder)


def trusted_keys(folder: Path) -> list[PublicKeys]:
    """Those of others that are trusted in a folder, by name.

    Raises:
        ConfigError: one of the files is no such key, or everybody can write there.
    """
    with _operators():
        return key_folder.trusted_keys(folder)


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
    with _operators():
        return key_folder.read_keyring(path)


def node_keyring(name: str, folder: Path) -> Keyring:
    """The keyring of a node that is called by its name; see `load_keyring`."""
    return load_keyring(folder / f"{name}{PRIVATE}")


def ensure_keyrings(roles: Mapping[str, KeyRole], folder: Path) -> dict[str, Keyring]:
    """The keyrings of nodes that one operator starts on one machine; keys that do not exist yet are made.

    Args:
        roles: the nodes, and as what each of them takes part; a guest may do whatever guests can.
        folder: the operator's.

    Raises:
        ConfigError: keys cannot be made or read.
    """
    for name, role in roles.items():
        if not (folder / f"{name}{PRIVATE}").exists():
            create_keys(name, folder, role, RIGHTS if role == "guest" else ())
    return {name: node_keyring(name, folder) for name in roles}


def fresh_keyrings(roles: Mapping[str, KeyRole]) -> dict[str, Keyring]:
    """The keyrings of the nodes of one launch, made for it alone and kept in no file; see `ensure_keyrings`."""
    private = {name: PrivateKeys.make(name, role, RIGHTS if role == "guest" else ()) for name, role in roles.items()}
    public = [keys.public for keys in private.values()]
    return {name: Keyring.of(keys, public) for name, keys in private.items()}


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


@contextmanager
def _operators() -> Iterator[None]:
    """What is wrong with a folder of keys is the operator's to mend."""
    try:
        yield
    except KeyFileError as error:
        raise ConfigError(ConfigProblem(str(error.path), error.expected, error.given, hint=error.hint)) from error
