"""The grammar of the command line: groups that import lazily, global options anywhere, nearest words, help.

Every command takes the global options beside its own, so they may stand before it, after it or between
its arguments; all of them write into the one `Invocation`. Built on click's public classes only.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import click

from codomyrmex.cli import command_table
from codomyrmex.cli.command_table import Entry, Section
from codomyrmex.cli.invocation import invocation_of

_HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_ANYWHERE = "Options for every command, anywhere on the line"
_SHORTLY = "Anywhere on the line: -C --root --state -q -v --json (codomyrmex --help)"
_PREFIX = "global_"


def _move(context: click.Context, _: click.Parameter, folder: str | None) -> None:
    if folder is None:
        return
    try:
        invocation_of(context).leave_for(folder)
    except OSError as error:
        raise click.UsageError(f"-C {folder!r}: {error.strerror}", context) from error


def _keep(context: click.Context, option: click.Parameter, value: Any) -> None:
    if value:
        setattr(invocation_of(context), _field(option), value)


def _count(context: click.Context, option: click.Parameter, value: int) -> None:
    invocation = invocation_of(context)
    setattr(invocation, _field(option), getattr(invocation, _field(option)) + value)


def _field(option: click.Parameter) -> str:
    """The field of `Invocation`; the prefix keeps it apart from parameters of commands."""
    return (option.name or "").removeprefix(_PREFIX)


GLOBAL_OPTIONS: tuple[click.Option, ...] = (
    click.Option(
        ["-C", "global_folder"], metavar="DIR", callback=_move, expose_value=False, is_eager=True,
        help="Work as if started in DIR.",
    ),
    click.Option(
        ["--root", "global_root"], metavar="DIR", callback=_keep, expose_value=False,
        help="The project's root, instead of looking upwards for it.",
    ),
    click.Option(
        ["--state", "global_state"], metavar="DIR", callback=_keep, expose_value=False,
        help="Where the state is kept, instead of ROOT/.codomyrmex.",
    ),
    click.Option(
        ["-q", "--quiet", "global_quiet"], count=True, callback=_count, expose_value=False,
        help="Only results and errors.",
    ),
    click.Option(
        ["-v", "--verbose", "global_verbose"], count=True, callback=_count, expose_value=False,
        help="More; with `run` also what the steps print.",
    ),
    click.Option(
        ["--json", "global_json"], is_flag=True, callback=_keep, expose_value=False, is_eager=True,
        help="One JSON document on stdout.",
    ),
)  # fmt: skip


class Command(click.Command):
    """A command that also takes the global options; its help lists its own."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        options["context_settings"] = {**_HELP, **(options.get("context_settings") or {})}
        super().__init__(*arguments, **options)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Its own parameters, then the global ones that it does not define itself."""
        return _with_global(super().get_params(ctx))

    def invoke(self, ctx: click.Context) -> Any:
        """Takes hold of stdout and stderr before anything in the command can put others in their place."""
        _ = invocation_of(ctx).output
        return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Its own options; one line stands for the global ones."""
        _write_options(self, ctx, formatter, "Options")
        formatter.write_paragraph()
        formatter.write_text(_SHORTLY)


class LazyGroup(click.Group):
    """A group whose commands are rows of the table, imported when one of them is called."""

    def __init__(self, name: str, entries: Sequence[Entry], about: str, **options: Any) -> None:
        options.setdefault("invoke_without_command", True)
        super().__init__(name, help=about, context_settings=dict(_HELP), callback=_show_help, **options)
        self.entries = {entry.name: entry for entry in entries}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the table."""
        return list(self.entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports the command's module."""
        entry = self.entries.get(cmd_name)
        if entry is None:
            return None
        if not entry.where:
            return LazyGroup(entry.name, command_table.GROUPS[entry.name], entry.about)
        module, _, attribute = entry.where.partition(":")
        found: click.Command = getattr(import_module(f"codomyrmex.cli.{module}"), attribute)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first word names; an unknown word gets the nearest."""
        word = args[0]
        command = self.get_command(ctx, word)
        if command is None and not ctx.resilient_parsing:
            raise click.UsageError(_unknown(self, word), ctx)
        return (command.name if command else None), command, args[1:]

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Its own parameters and the global ones."""
        return _with_global(super().get_params(ctx))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands, then the global options on one line."""
        rows = [(entry.name, entry.about) for entry in self.entries.values()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
        formatter.write_paragraph()
        formatter.write_text(_SHORTLY)


class Program(LazyGroup):
    """The whole program: bare it shows what is used every day, with --help everything."""

    def __init__(self) -> None:
        super().__init__(
            "codomyrmex",
            command_table.root_entries(),
            "Durable workflows: killed anywhere, they go on where they were.",
            params=[_version_option()],
        )

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Every command under its title, then the global options."""
        self.format_usage(ctx, formatter)
        self.format_help_text(ctx, formatter)
        width = max(len(entry.name) for entry in self.entries.values())
        for section in (*command_table.DAILY, *command_table.MORE):
            _write_section(formatter, section, width)
        with formatter.section(_ANYWHERE):
            formatter.write_dl(_records(GLOBAL_OPTIONS, ctx))
        with formatter.section("Other options"):
            formatter.write_dl(
                _records([each for each in self.get_params(ctx) if each not in GLOBAL_OPTIONS], ctx)
            )

    def daily_help(self, ctx: click.Context) -> str:
        """The daily commands and where to read on."""
        formatter = ctx.make_formatter()
        formatter.write_text(self.help or "")
        entries = [entry for section in command_table.DAILY for entry in section.entries]
        for section in command_table.DAILY:
            _write_section(formatter, section, max(len(entry.name) for entry in entries))
        formatter.write_paragraph()
        formatter.write_text("All commands: codomyrmex --help. One of them: codomyrmex COMMAND --help.")
        return formatter.getvalue()


def _show_help() -> None:
    """What a group does when no command follows it."""
    context = click.get_current_context()
    if context.invoked_subcommand is not None:
        return
    group = context.command
    assert isinstance(group, LazyGroup)
    text = group.daily_help(context) if isinstance(group, Program) else group.get_help(context)
    commands = [{"name": entry.name, "about": entry.about} for entry in group.entries.values()]
    invocation_of(context).output.answer({"commands": commands}, [text.rstrip("\n")])


def _version_option() -> click.Option:
    def show(context: click.Context, _: click.Parameter, asked: bool) -> None:
        if not asked or context.resilient_parsing:
            return
        from codomyrmex import __version__

        click.echo(f"codomyrmex {__version__}")
        context.exit()

    return click.Option(
        ["--version"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=show,
        help="Show the version and exit.",
    )


def _with_global(own: list[click.Parameter]) -> list[click.Parameter]:
    taken = {name for parameter in own for name in parameter.opts}
    return [*own, *(option for option in GLOBAL_OPTIONS if not taken & set(option.opts))]


def _write_options(
    command: click.Command, ctx: click.Context, formatter: click.HelpFormatter, title: str
) -> None:
    own = [parameter for parameter in command.get_params(ctx) if parameter not in GLOBAL_OPTIONS]
    records = _records([parameter for parameter in own if isinstance(parameter, click.Option)], ctx)
    if records:
        with formatter.section(title):
            formatter.write_dl(records)


def _records(parameters: Sequence[click.Parameter], ctx: click.Context) -> list[tuple[str, str]]:
    return [record for parameter in parameters if (record := parameter.get_help_record(ctx)) is not None]


def _write_section(formatter: click.HelpFormatter, section: Section, width: int) -> None:
    with formatter.section(section.title):
        # One width for every section, so that the second column is one column.
        formatter.write_dl([(entry.name.ljust(width), entry.about) for entry in section.entries])


def _unknown(group: LazyGroup, word: str) -> str:
    """The message for an unknown word: the nearest of this group, or where else the word would fit."""
    text = f"no command {word!r}"
    nearest = get_close_matches(word, group.entries, n=1, cutoff=0.6)
    if nearest:
        return f"{text}; did you mean {nearest[0]!r}?"
    if not isinstance(group, Program):
        return f"{text}; there are: {', '.join(group.entries)}"
    if command_table.exists("run") and word.endswith((".yaml", ".yml", ".json", ".toml")):
        return f"{text}; did you mean 'run {word}'?"
    for noun in command_table.GROUPS:
        if command_table.exists(noun, word):
            return f"{text}; did you mean '{noun} {word}'?"
    return text
