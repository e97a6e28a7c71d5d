"""The grammar: options anywhere, nearest words, help that names only what exists, one way out."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from codomyrmex import __version__
from codomyrmex.cli import command_table, door
from codomyrmex.cli.command_line import GLOBAL_OPTIONS, Command, LazyGroup, Program
from codomyrmex.exceptions import Conflict, Fault, ValidationError


def all_commands(
    group: LazyGroup, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, LazyGroup):
            yield from all_commands(command, (*path, name))


COMMANDS = dict(all_commands(Program()))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_row_of_the_table_is_a_command_that_says_what_the_table_says(path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    entries = command_table.root_entries() if len(path) == 1 else command_table.GROUPS[path[0]]
    about = next(entry.about for entry in entries if entry.name == path[-1])
    assert (command.help or "").split("\n\n")[0].replace("\n", " ").rstrip(".") == about
    assert command_table.exists(*path)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_help_fits_into_eighty_columns(path: tuple[str, ...], cli, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    ended = cli(*path, "--help")
    assert ended.code == 0
    assert max(map(len, ended.out.splitlines())) <= 80


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_no_command_takes_a_global_option_for_its_own(path: tuple[str, ...]) -> None:
    taken = {name for option in GLOBAL_OPTIONS for name in option.opts}
    assert not [name for each in COMMANDS[path].params for name in each.opts if name in taken]


def test_bare_it_shows_the_daily_commands_and_where_to_read_on(cli) -> None:
    ended = cli()
    daily = [entry.name for section in command_table.DAILY for entry in section.entries]
    assert ended.code == 0
    assert all(f"\n  {name}" in ended.out for name in daily)
    assert "codomyrmex --help" in ended.out
    assert not ended.err


def test_a_bare_group_shows_its_commands(cli) -> None:
    ended = cli("config")
    assert (ended.code, "show" in ended.out) == (0, True)
    assert [each["name"] for each in cli("config", "--json").document["data"]["commands"]] == ["show"]


@pytest.mark.parametrize(
    "line",
    [
        "--json config show --state s",
        "config --json show --state s",
        "config --state s show --json",
        "--state s config show --json",
        "config show --json --state=s",
    ],
)
def test_global_options_may_stand_anywhere(cli, project: Path, line: str) -> None:
    assert cli(*line.split()).document["data"]["state"]["value"] == str(project / "s")


def test_a_folder_to_start_in_may_stand_anywhere(cli, project: Path) -> None:
    (project / "sub").mkdir()
    ended = cli("config", "show", "--json", "-C", "sub")
    assert ended.document["data"]["root"]["value"] == str(project / "sub")


def test_a_folder_to_start_in_that_is_not_there_is_a_usage_error(cli) -> None:
    ended = cli("-C", "nowhere", "config", "show")
    assert ended.code == 2
    assert "nowhere" in ended.err


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("inti", "no command 'inti'; did you mean 'init'?"),
        ("config shw", "no command 'shw'; did you mean 'show'?"),
        ("config frobnicate", "there are: show"),
        ("--jsno", "no option '--jsno'; did you mean '--json'?"),
        ("config show --orign", "no option '--orign'; did you mean '--origin'?"),
        ("completion tcsh", "'tcsh' is not one of 'bash', 'zsh', 'fish'"),
        ("completion", "missing argument 'SHELL'. Choose from: bash, zsh, fish"),
        ("config show extra", "extra"),
        ("init a b", "b"),
    ],
)
def test_a_mistake_in_the_line_is_code_2_with_the_nearest_word_and_no_traceback(
    cli, line: str, told: str
) -> None:
    ended = cli(*line.split())
    assert ended.code == 2
    assert ended.err.startswith("error: ")
    assert told in ended.err
    assert "--help" in ended.err
    assert "Traceback" not in ended.err
    assert not ended.out
    document = cli(*line.split(), "--json").document
    assert (document["ok"], document["error"]["code"]) == (False, "usage")


def test_the_version_is_one_line(cli) -> None:
    assert cli("--version").out == f"codomyrmex {__version__}\n"


class Failing:
    """A command table with one command that fails as it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def with_error(self, error: BaseException) -> None:
        @click.command(cls=Command)
        def fail() -> None:
            raise error

        def give(*_: object) -> click.Command:
            return fail

        self._monkeypatch.setattr(LazyGroup, "get_command", give)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Failing:
    return Failing(monkeypatch)


def test_an_error_made_on_purpose_is_told_with_its_code_and_what_to_do_next(cli, failing: Failing) -> None:
    failing.with_error(Conflict("somebody holds it", hint="wait for them"))
    ended = cli("fail")
    assert (ended.code, ended.out) == (6, "")
    assert ended.err == "error: somebody holds it\n  wait for them\n"
    error = cli("--json", "fail").document["error"]
    assert error == {
        "code": "conflict",
        "message": "somebody holds it",
        "hint": "wait for them",
        "details": None,
    }


def test_every_fault_of_an_input_is_told(cli, failing: Failing) -> None:
    faults = [
        Fault(message="unknown key", path="steps[0].cal", file="a.yaml", line=3, nearest="call"),
        Fault(message="no name"),
    ]
    failing.with_error(ValidationError(faults, subject="a.yaml"))
    ended = cli("fail")
    assert ended.code == 2
    assert "a.yaml:3: steps[0].cal: unknown key; did you mean 'call'?" in ended.err
    assert "no name" in ended.err
    assert [each["message"] for each in cli("fail", "--json").document["error"]["details"]] == [
        "unknown key",
        "no name",
    ]


def test_an_interrupt_is_130(cli, failing: Failing) -> None:
    failing.with_error(KeyboardInterrupt())
    assert cli("fail").code == 130


def test_an_error_of_the_system_names_the_file(cli, failing: Failing) -> None:
    failing.with_error(PermissionError(13, "Permission denied", "/some/file"))
    ended = cli("fail")
    assert (ended.code, ended.err) == (1, "error: /some/file: Permission denied\n")


def test_a_fault_of_the_program_shows_its_traceback_only_when_asked(cli, failing: Failing) -> None:
    failing.with_error(ZeroDivisionError("division by zero"))
    ended = cli("fail")
    assert ended.code == 1
    assert "fault of codomyrmex itself" in ended.err
    assert "Traceback" not in ended.err
    assert "Traceback" in cli("-v", "fail").err


def run_program(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "codomyrmex", *words],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_reader_that_goes_away_is_no_error() -> None:
    line = f"{sys.executable} -m codomyrmex --help | head -0; echo ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=30, check=False)
    assert ended.stderr == ""
    assert ended.stdout.strip() in ("0", str(door.BROKEN_PIPE))


def test_the_shell_completes_commands_and_options() -> None:
    ended = run_program(
        _CODOMYRMEX_COMPLETE="bash_complete", COMP_WORDS="codomyrmex config sh", COMP_CWORD="2"
    )
    assert ended.stdout.split("\n")[0] == "plain,show"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_that_calls_this_program(cli, shell: str) -> None:
    ended = cli("completion", shell)
    assert f"{door.COMPLETION_VARIABLE}={shell}_complete" in ended.out
    assert cli("completion", shell, "--json").document["data"]["script"].strip() == ended.out.strip()


@pytest.mark.parametrize("words", [["--version"], ["--help"], []], ids=str)
def test_a_quick_command_imports_neither_rich_nor_the_engine(words: list[str]) -> None:
    code = (
        "import sys; from codomyrmex.cli.door import run; run(sys.argv[1:]);"
        "heavy = {'rich', 'yaml', 'apsw', 'msgspec', 'jsonschema_rs', 'asyncio'} & set(sys.modules);"
        "sys.exit(f'imported: {sorted(heavy)}' if heavy else 0)"
    )
    ended = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, timeout=30, check=False)
    assert ended.stderr == b""
