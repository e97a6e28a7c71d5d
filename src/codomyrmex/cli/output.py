"""Where a command's words go: results to stdout, notes to stderr, one JSON document with --json."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from codomyrmex.cli.terminal import open_terminals


class Output:
    """The two streams of a command and how it was asked to speak."""

    def __init__(self, *, json: bool, quiet: int, verbose: int) -> None:
        self.json = json
        self.quiet = quiet
        self.verbose = verbose
        self.out, self.err = open_terminals()

    def answer(self, data: object, lines: Iterable[str]) -> None:
        """The command's result: `data` as the one JSON document, or its text."""
        if self.json:
            self.document({"ok": True, "data": data})
            return
        for line in lines:
            self.out.line(line)
        self.out.flush()

    def failed(
        self, data: object, lines: Iterable[str], *, code: str, message: str, hint: str | None = None
    ) -> None:
        """A result that is no success: its text, or with --json the data and the error in one document."""
        if self.json:
            self.document({**error_document(code, message, hint), "data": data})
            return
        for line in lines:
            self.out.line(line)
        self.out.flush()

    def document(self, document: Mapping[str, Any]) -> None:
        """One JSON document on stdout; indented for a person, on one line for a program."""
        self.out.line(json_text(document, pretty=self.out.is_tty))
        self.out.flush()

    def record(self, record: Mapping[str, Any]) -> None:
        """One line of NDJSON on stdout, handed on at once."""
        self.out.line(json_text(record, pretty=False))
        self.out.flush()

    def note(self, text: str, style: str = "") -> None:
        """A word to the person at the terminal; none with -q."""
        if not self.quiet:
            self._tell(self.err.paint(text, style))

    def detail(self, text: str) -> None:
        """A word that only -v asks for."""
        if self.verbose:
            self._tell(self.err.paint(text, "dim"))

    def apart(self) -> None:
        """An empty line between the story and the result, where both are on one screen."""
        if self.err.is_tty and self.out.is_tty and not (self.quiet or self.json):
            self._tell("")

    def warn(self, text: str) -> None:
        """Something the person should know although the command went on."""
        self._tell(f"{self.err.paint('warning:', 'bold yellow')} {text}")

    def _tell(self, text: str) -> None:
        self.err.line(text)
        self.err.flush()


def json_text(document: object, *, pretty: bool) -> str:
    """JSON for programs; a value that JSON does not know stands as its text."""
    import json

    return json.dumps(document, ensure_ascii=False, default=str, indent=2 if pretty else None)


def error_document(
    code: str, message: str, hint: str | None = None, details: object = None
) -> dict[str, Any]:
    """The envelope of a failure."""
    return {"ok": False, "error": {"code": code, "message": message, "hint": hint, "details": details}}
