"""The commands that methods bring along: a group for each method, imported only when it is used.

A command is a plain function whose first parameter is a `fednet.methods.contract.Cluster`; here it gets the options by
which a guest joins, and becomes a command of typer. Knows no method.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter, Signature, signature, unwrap
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, get_type_hints

import typer
from typer.core import TyperGroup

from fednet.errors import UnknownMethod
from fednet.methods import registry
from launch.commands.options import LOOPBACK, GuestJoinOption, GuestKeyOption, InsecureOption, ListenOption
from launch.errors import ConfigError, ConfigProblem, unknown_method
from launch.output import open_console

if TYPE_CHECKING:
    from fednet.methods.contract import Method

SENTENCE = 200
"""Characters of a command's first sentence that a help shows."""
_GUEST_OPTIONS: Mapping[str, tuple[Any, Any]] = {
    "join": (GuestJoinOption, Parameter.empty),
    "listen": (ListenOption, LOOPBACK),
    "key": (GuestKeyOption, None),
    "insecure": (InsecureOption, False),
}
"""Annotation and default of every option that a method's command gets."""


class PlainGroup(TyperGroup):
    """A group whose help shows what its commands do in whole sentences, without the frames that take rich to draw."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "rich_markup_mode": None})

    def sections(self, ctx: Any) -> Mapping[str, Sequence[str]]:
        """The names of the commands under the headings of the help."""
        return {"Commands": self.list_commands(ctx)}

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Every command with the first sentence of its help."""
        for title, names in self.sections(ctx).items():
            commands = [(name, self.get_command(ctx, name)) for name in names]
            if rows := [(name, command.get_short_help_str(SENTENCE)) for name, command in commands if command]:
                with formatter.section(title):
                    formatter.write_dl(rows)


class RootGroup(PlainGroup):
    """The commands of fednet, and after them a group for each registered method, or for a module by its dotted path."""

    def sections(self, ctx: Any) -> Mapping[str, Sequence[str]]:
        """The commands of fednet, and the methods."""
        return {"Commands": super().list_commands(ctx), "Methods": registry.names()}

    def list_commands(self, ctx: Any) -> list[str]:
        """The names in the order of the help."""
        return [*super().list_commands(ctx), *registry.names()]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command or a method's group; None if there is neither."""
        if cmd_name in registry.names() or "." in cmd_name:
            return MethodGroup(cmd_name)
        return super().get_command(ctx, cmd_name)


class MethodGroup(PlainGroup):
    """A method's commands, which are found when the group is invoked or shows its help."""

    def __init__(self, method: str) -> None:
        super().__init__(name=method, help=f"Commands of the method {method}.")
        self._method = method
        self._found: PlainGroup | None = None

    def list_commands(self, ctx: Any) -> list[str]:
        """The names in the order of the method's own table."""
        return self._group().list_commands(ctx)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """One of the method's commands; None if there is no such command."""
        return self._group().get_command(ctx, cmd_name)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The method's summary and its commands."""
        self._group()
        super().format_help(ctx, formatter)

    def _group(self) -> PlainGroup:
        if self._found is None:
            method = find_method(self._method)
            self.help = f"{self._method}: {method.summary}."
            if not method.commands:
                runs_it = (
                    f"its sites are your scripts: {method.scripts}" if method.scripts else "`fednet launch` runs it"
                )
                self.help += f"\n\nThe method has no commands of its own; {runs_it}."
            self._found = _typer_group(self._method, method.commands)
        return self._found


def find_method(name: str) -> Method:
    """A registered method, or one of a module beside the operator: the current folder is importable.

    Raises:
        ConfigError: there is none, or its module cannot be used.
    """
    if "." in name and "" not in sys.path:
        sys.path.insert(0, "")
    try:
        return registry.find(name)
    except UnknownMethod as error:
        raise ConfigError(unknown_method(error, "method")) from error


def _typer_group(method: str, commands: Mapping[str, Callable[..., None]]) -> PlainGroup:
    """The commands of a method, those with a space in their name in groups."""
    app = typer.Typer(name=method, cls=PlainGroup, rich_markup_mode=None)
    groups: dict[str, typer.Typer] = {}
    app.callback()(lambda: None)
    for path, command in commands.items():
        above, _, name = path.rpartition(" ")
        if above and above not in groups:
            inner = ", ".join(other.rpartition(" ")[2] for other in commands if other.startswith(f"{above} "))
            groups[above] = typer.Typer(
                name=above,
                cls=PlainGroup,
                help=f"Subcommands: {inner}.",
                no_args_is_help=True,
                rich_markup_mode=None,
            )
            app.add_typer(groups[above])
        groups.get(above, app).command(name)(guest_command(method, command))
    group = typer.main.get_command(app)
    assert isinstance(group, PlainGroup)  # noqa: S101 - it has a callback
    return group


def guest_command(method: str, command: Callable[..., None]) -> Callable[..., None]:
    """A command that joins a live cluster: the given one, with the options of a guest in place of its cluster.

    Raises:
        ConfigError: one of its parameters has the name of such an option.
    """
    _, *own = signature(command).parameters.values()
    if taken := sorted({parameter.name for parameter in own} & set(_GUEST_OPTIONS)):
        raise ConfigError(ConfigProblem(method, hint=f"A command has the parameter {taken[0]}, a guest's own option."))
    texts = {parameter.name: parameter.annotation for parameter in own}
    names = getattr(unwrap(command), "__globals__", {})
    hints = get_type_hints(SimpleNamespace(__annotations__=texts), names, include_extras=True)

    def run(*, join: list[str], listen: str, key: Any, insecure: bool, **arguments: Any) -> None:
        from launch.run.endpoint import EndpointOptions  # noqa: PLC0415 - help texts need not wait for it
        from launch.run.guest import GuestCluster  # noqa: PLC0415

        endpoint = EndpointOptions(listen, join=tuple(join), key=key, insecure=insecure)
        command(GuestCluster(endpoint, method, open_console()), **arguments)

    parameters = [
        *(each.replace(kind=Parameter.KEYWORD_ONLY, annotation=hints[each.name]) for each in own),
        *(
            Parameter(name, Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
            for name, (annotation, default) in _GUEST_OPTIONS.items()
        ),
    ]
    run.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__doc__ = command.__doc__
    return run
