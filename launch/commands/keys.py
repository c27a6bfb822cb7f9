"""The commands `fednet keys ...`: make key pairs, trust those of others, list them and compare fingerprints."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from launch.commands.methods import PlainGroup
from launch.commands.options import JsonOption
from launch.output import open_console, open_table, print_json
from protocol.security.key_roles import KeyRole

if TYPE_CHECKING:
    from protocol.security.keys import PublicKeys

KEYS_FOLDER: Final = Path("keys")

app = typer.Typer(
    cls=PlainGroup, help="Makes keys and says whose are trusted.", no_args_is_help=True, rich_markup_mode=None
)

FolderOption = Annotated[Path, typer.Option("--folder", metavar="DIR", help="The folder of the keys.")]

RoleOption = Annotated[
    KeyRole, typer.Option("--role", help="What it takes part as; a client may do whatever the others may.")
]
MayOption = Annotated[
    str | None, typer.Option("--may", metavar="RIGHTS", help="What a guest may do: some of ask,models,rounds.")
]


@app.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The node's name.")],
    folder: FolderOption = KEYS_FOLDER,
    role: RoleOption = "client",
    may: MayOption = None,
) -> None:
    """Makes a key pair: NAME.key stays here, NAME.pub is for the others."""
    from launch.run import keys  # noqa: PLC0415 - help texts need not wait for it

    public = keys.create_keys(name, folder, role, keys.rights(may or ("ask" if role == "guest" else "")))
    from nodes.key_folder import PRIVATE, PUBLIC  # noqa: PLC0415 - help needs no cryptography

    _print_line(f"{folder / (name + PRIVATE)}  private: it never leaves this machine")
    _print_line(f"{folder / (name + PUBLIC)}  public: hand it to the others, who `fednet keys trust` it")
    _print_line(f"fingerprint {public.fingerprint}")


@app.command()
def trust(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The peer's public key, as its operator sent it.")],
    folder: FolderOption = KEYS_FOLDER,
    *,
    role: Annotated[KeyRole | None, typer.Option("--role", help="Let it in as this, whatever it says.")] = None,
    may: MayOption = None,
    until: Annotated[
        datetime | None, typer.Option("--until", formats=["%Y-%m-%d"], help="The last day (UTC); default: no end.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace another key, or role, of that name.")] = False,
) -> None:
    """Trusts a peer's key: nodes with keys of this folder accept its connections and signatures."""
    from launch.run import keys  # noqa: PLC0415 - help texts need not wait for it

    rights = None if may is None else keys.rights(may)
    grant = keys.Grant(role, rights, until.date() if until else None) if role or may or until else None
    public = keys.trust_keys(file, folder, grant, replace=replace)
    _print_line(f"{public.name} is trusted as a {keys.describe(public)}, fingerprint {public.fingerprint}")
    if _is_over(public):
        _print_line("That day is past: nobody lets it in. Say another with --until and --replace.")
    _print_line(
        f"Ask the operator of {public.name} whether `fednet keys fingerprint {public.name}` prints the same there."
    )


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The node's name.")], folder: FolderOption = KEYS_FOLDER
) -> None:
    """Trusts a peer's key no more: nodes that run with keys of this folder end its connections within seconds."""
    from launch.run import keys  # noqa: PLC0415 - help texts need not wait for it

    keys.revoke_keys(name, folder)
    _print_line(f"{name} is trusted no more: nodes that run with keys of {folder} drop it within seconds")
    _print_line(f"Sites of other operators let {name} in until they revoke it, too.")


@app.command(name="list")
def listed(folder: FolderOption = KEYS_FOLDER, as_json: JsonOption = False) -> None:
    """Lists the keys of a folder: the operator's own and the trusted ones."""
    from launch.run import keys  # noqa: PLC0415 - help texts need not wait for it

    found = [("own", public) for public in keys.own_keys(folder)]
    found += [("trusted", public) for public in keys.trusted_keys(folder)]
    if as_json:
        print_json([_values(whose, public) for whose, public in found])
        return
    if not found:
        _print_line(f"no keys in {folder}: `fednet keys new NAME` makes some, --folder looks elsewhere")
        return
    table = open_table("name", "", "fingerprint", "as")
    for whose, public in found:
        ended = " (over)" if _is_over(public) else ""
        table.add_row(public.name, whose, public.fingerprint, keys.describe(public) + ended)
    open_console().print(table)


def _values(whose: str, public: PublicKeys) -> dict[str, object]:
    """What a program reads."""
    not_after = None if public.not_after is None else public.not_after.isoformat()
    return {
        "name": public.name, "whose": whose, "fingerprint": public.fingerprint, "role": public.role,
        "may": list(public.may), "not_after": not_after, "over": _is_over(public),
    }  # fmt: skip


def _is_over(public: PublicKeys) -> bool:
    return public.expired(datetime.now(UTC).date())


@app.command()
def fingerprint(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The node's name.")], folder: FolderOption = KEYS_FOLDER
) -> None:
    """Prints the fingerprint of keys in a folder, to compare it with what others see."""
    from launch.run import keys  # noqa: PLC0415 - help texts need not wait for it

    _print_line(keys.find_keys(name, folder).fingerprint)


def _print_line(line: str) -> None:
    open_console().print(line, markup=False, highlight=False, soft_wrap=True)
