"""What one call of the program was asked for beside its command: where to work and how to speak."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from codomyrmex.cli.output import Output
from codomyrmex.exceptions import CodomyrmexError

if TYPE_CHECKING:
    from codomyrmex.settings import Settings, Value
    from codomyrmex.workspace import Workspace


class Invocation:
    """The global options, gathered from wherever they stood on the line; made once by the door."""

    def __init__(self, *, json: bool = False) -> None:
        self.root: str | None = None
        self.state: str | None = None
        self.quiet = 0
        self.verbose = 0
        self.json = json
        self._started_in: Path | None = None
        self._output: Output | None = None
        self._workspaces: dict[Path | None, Workspace] = {}

    @property
    def started_in(self) -> Path:
        """The folder that the user stands in, wherever -C has led."""
        try:
            return self._started_in or Path.cwd()
        except FileNotFoundError:
            raise CodomyrmexError(
                "the current folder is not there any more", hint="go to another one"
            ) from None

    def leave_for(self, folder: str) -> None:
        """Works from another folder on (-C); raises OSError."""
        self._started_in = self.started_in
        os.chdir(folder)

    @property
    def output(self) -> Output:
        """The streams; asked for first when all options are known."""
        if self._output is None:
            self._output = Output(json=self.json, quiet=self.quiet, verbose=self.verbose)
        return self._output

    def workspace(self, file: Path | None = None) -> Workspace:
        """Root and state for this call; `file` is the workflow file it names, if it names one."""
        from codomyrmex.workspace import find_workspace

        if file not in self._workspaces:
            _ = self.started_in
            self._workspaces[file] = find_workspace(file=file, root=self.root, state=self.state)
        return self._workspaces[file]

    def settings(self, workspace: Workspace, flags: Mapping[str, Value] | None = None) -> Settings:
        """The settings that hold there; says on stderr which keys nothing reads."""
        settings = workspace.settings(flags)
        for warning in settings.warnings:
            self.output.warn(warning)
        return settings

    def command(self, workspace: Workspace, *words: str, file: Path | None = None) -> str:
        """A command line that does `words` in this workspace from the folder the user stands in.

        `file` is the workflow file among the words, if there is one: it decides the root.
        """
        from shlex import join

        from codomyrmex.workspace import find_workspace

        line = ["codomyrmex", *words]
        there = find_workspace(file=file, current=self.started_in)
        if there.root != workspace.root:
            line += ["--root", str(workspace.root)]
            there = find_workspace(root=workspace.root, current=self.started_in)
        if there.state != workspace.state:
            line += ["--state", str(workspace.state)]
        return join(line)


def invocation_of(context: click.Context) -> Invocation:
    """The one object that every command of this call shares."""
    found = context.find_object(Invocation)
    if found is None:
        found = context.find_root().obj = Invocation()
    return found


pass_invocation = click.make_pass_decorator(Invocation)
