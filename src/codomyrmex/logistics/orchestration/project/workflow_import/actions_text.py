"""Expressions of GitHub Actions said in ours: conditions, texts with values in them, and shell texts.

Layer: pure. What only a run of the original would know (the ref, an input, an output of a job) becomes a
parameter of the workflow, empty by default and told of, so that nothing is guessed. In shell texts a value
that is not known now comes by an environment variable and is never part of the code; secrets stay secrets,
whose values are to be set here. A condition cannot read one: it looks into the environment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from codomyrmex.logistics.orchestration.project.expressions import ExpressionError, compile_condition
from codomyrmex.logistics.orchestration.project.references import compile_template
from codomyrmex.logistics.orchestration.project.shell_text import shell_variables
from codomyrmex.logistics.orchestration.project.workflow_faults import Path, clean_name
from codomyrmex.logistics.orchestration.project.workflow_import.actions_syntax import (
    Expression,
    UnreadableExpression,
    constant,
    fold,
    parse,
    pieces,
    text_of,
    walk,
)
from codomyrmex.logistics.orchestration.project.workflow_import.import_report import LeftOut, dotted, line_of
from codomyrmex.logistics.orchestration.project.workflow_text import Lines

_OWN_REFERENCE = re.compile(
    r"(?<![\\$])\$\{(?=\s*(?:parameters|steps|run|item|index|env|secrets)\b|\s*[a-z]+\s*\()"
)
_CALLS = {"contains": "contains", "startswith": "startswith", "endswith": "endswith"}


class NotCarried(Exception):
    """Something that cannot be said in a workflow of ours; the message says why."""


@dataclass(slots=True, kw_only=True)
class JobEnd:
    """What later jobs need to know of one: its last steps, and the conditions that tell its result.

    `started` and `failed` are conditions, None where the job can neither be skipped nor fail; `gates` hold
    for it to start. A job of which no step was kept has the ends of those it needs.
    """

    kept: bool
    ends: list[str] = field(default_factory=list)
    gates: list[str] = field(default_factory=list)
    started: str | None = None
    failed: str | None = None


@dataclass(slots=True, kw_only=True)
class Report:
    """The parameters and the list of what was left out, gathered while a file is walked."""

    lines: Lines
    parameters: dict[str, dict[str, Any]] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    _names: dict[str, str] = field(default_factory=dict)

    def leave_out(self, path: Path, what: str, advice: str = "") -> None:
        """Notes what is not carried over; the same words for the same line only once."""
        found = LeftOut(what=what, place=dotted(path), line=line_of(self.lines, path), advice=advice)
        if found not in self.left_out:
            self.left_out.append(found)

    def parameter(self, source: str, path: Path, *, default: Any = "") -> str:
        """The name of the parameter that stands for what only a run of the original would know."""
        name = self._names.get(source)
        if name is None:
            wanted = (clean_name(source.replace(".outputs.", "."), dots=False) or "value")[:60].rstrip("_")
            wanted = wanted.replace("-", "_")
            name, number = wanted, 2
            while name in self.parameters:
                name, number = f"{wanted}_{number}", number + 1
            self._names[source] = name
            kind = "boolean" if isinstance(default, bool) else "string"
            about = f"stands for {source[:200]}"
            self.parameters[name] = {"type": kind, "default": default, "description": about}
            what = f"`{source[:100]}` is known only there; it became the parameter {name}"
            self.leave_out(path, what, f"give its value when you run: -p {name}=...")
        return name

    def declare(self, source: str, name: str, declaration: dict[str, Any]) -> None:
        """A parameter that the original declares as an input."""
        self._names[source] = name
        self.parameters[name] = declaration


@dataclass(slots=True, kw_only=True)
class Context:
    """Where an expression stands: what is known there, and what its status functions speak of."""

    report: Report
    path: Path
    job: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    results: Mapping[str, JobEnd] = field(default_factory=dict)
    outcomes: Mapping[str, str] = field(default_factory=dict)
    failed: str = "false"

    def known(self, path: tuple[str, ...]) -> Expression | None:
        """The value of a context that an import knows."""
        root, rest = path[0], path[1:]
        if root == "env" and len(rest) == 1:
            return constant(self.env[rest[0]]) if rest[0] in self.env else None
        if root == "matrix" and root in self.values:
            here: Any = self.values[root]
            for key in rest:
                here = here.get(key) if isinstance(here, dict) else None
            return constant(here)
        dotted_name = ".".join(path)
        return constant(self.values[dotted_name]) if dotted_name in self.values else None

    def read(self, source: str) -> Expression:
        """The folded tree of an expression."""
        try:
            return fold(parse(source), self.known)
        except UnreadableExpression as error:
            raise NotCarried(f"the expression cannot be read: {error}") from None

    # -- in our words

    def condition(self, tree: Expression) -> str:
        """A condition; where it cannot be said it becomes a parameter that decides, false by default."""
        text = self.say(tree)
        try:
            compile_condition(text)
        except ExpressionError:
            source = tree.source or "condition"
            return f"parameters.{self.report.parameter(source, self.path, default=False)}"
        return text

    def say(self, tree: Expression) -> str:
        """The text of an expression of ours with the same value."""
        if tree.known:
            return _literal(tree.value)
        if tree.kind in ("&&", "||"):
            word = " and " if tree.kind == "&&" else " or "
            return word.join(self._operand(each) for each in tree.operands)
        if tree.kind == "not":
            return f"not {self._operand(tree.operands[0])}"
        if tree.kind in ("==", "!="):
            return self._comparison(tree)
        if tree.kind == "call":
            return self._call(tree)
        if tree.kind == "context":
            return self._context(tree)
        return self._boolean(tree) if tree.kind in ("<", "<=", ">", ">=") else self._parameter(tree)

    def _operand(self, tree: Expression) -> str:
        text = self.say(tree)
        return text if tree.known or re.fullmatch(r"[\w.]+(?:\([^()]*\))?", text) else f"({text})"

    def _boolean(self, tree: Expression) -> str:
        return f"parameters.{self.report.parameter(self._source(tree), self.path, default=False)}"

    def _parameter(self, tree: Expression, default: str = "") -> str:
        return f"parameters.{self.report.parameter(self._source(tree), self.path, default=default)}"

    def _source(self, tree: Expression) -> str:
        """How it was written; ids of steps and combinations count within their job only."""
        source = tree.source
        local = source.startswith(("steps.", "matrix.", "strategy.", "job."))
        return f"{self.job}.{source}" if local and self.job else source

    def _context(self, tree: Expression) -> str:
        path = tree.value
        if path[0] in ("env", "secrets") and len(path) == 2:
            if path[0] == "secrets":
                advice = f"a condition reads no secret: set {path[1]} in the environment where you run the workflow"
                self.report.leave_out(self.path, f"the secret {path[1]}", advice)
            return f"(env.{path[1]} ?? '')" if re.fullmatch(r"\w+", path[1]) else self._parameter(tree)
        if path[0] == "needs" and len(path) == 3 and path[2] == "result":
            end = self.results.get(path[1])
            if end is not None and end.kept:
                skipped = _is_result(end, "skipped")
                failed = _is_result(end, "failure")
                return f"(({skipped}) and 'skipped') or (({failed}) and 'failure') or 'success'"
            return self._parameter(tree, "success")
        return self._parameter(tree)

    def secret(self, name: str) -> str:
        """The reference to a secret, whose value has to be set here: that is noted."""
        advice = f"set it here: codomyrmex secrets set {name}"
        self.report.leave_out(self.path, f"the value of the secret {name}", advice)
        return f"${{secrets.{name}}}"

    def _comparison(self, tree: Expression) -> str:
        left, right = tree.operands
        if left.known:
            left, right = right, left
        text = self._state_comparison(left, right)
        if text is not None:
            return text if tree.kind == "==" else f"not ({text})"
        subject = self._operand(left)
        if not right.known:
            return f"{subject} {tree.kind} {self._operand(right)}"
        if self._is_boolean(subject) and isinstance(right.value, bool):
            return f"{subject} {tree.kind} {_literal(right.value)}"
        wanted = text_of(right.value)
        if self._is_boolean(subject):
            subject = f"str({subject})"
        elif wanted.lower() != wanted.upper():
            subject = f"lower({subject})"
        return f"{subject} {tree.kind} {_literal(wanted.lower())}"

    def _is_boolean(self, text: str) -> bool:
        declared = self.report.parameters.get(text.removeprefix("parameters."), {})
        return declared.get("type") in ("boolean", "number")

    def _state_comparison(self, left: Expression, right: Expression) -> str | None:
        """`needs.x.result == '...'` and `steps.x.outcome == '...'`, which our statuses tell."""
        path, wanted = left.value, text_of(right.value).lower()
        if left.kind != "context" or not right.known or len(path) != 3:
            return None
        if path[0] == "needs" and path[2] == "result":
            end = self.results.get(path[1])
            return _is_result(end, wanted) if end is not None and end.kept else None
        if path[0] == "steps" and path[2] in ("outcome", "conclusion") and path[1] in self.outcomes:
            status = {"success": "completed", "failure": "failed"}.get(wanted, wanted)
            return f"{status_of(self.outcomes[path[1]])} == {_literal(status)}"
        return None

    def _call(self, tree: Expression) -> str:
        name = tree.value
        if name == "success":
            return f"not ({self.failed})"
        if name == "failure":
            return self.failed
        if name in ("always", "cancelled"):
            return "true" if name == "always" else "false"
        if name in _CALLS and len(tree.operands) == 2:
            text, part = tree.operands
            if not text.known or isinstance(text.value, str):
                part_text = (
                    _literal(text_of(part.value).lower()) if part.known else f"lower({self.say(part)})"
                )
                return f"{_CALLS[name]}(lower({self.say(text)}), {part_text})"
            if name == "contains" and isinstance(text.value, list):
                items = ", ".join(_literal(text_of(each).lower()) for each in text.value)
                return f"lower({self.say(part)}) in [{items}]"
        return self._parameter(tree)

    # -- texts

    def variable(self, text: Any) -> str:
        """The value of a variable of the environment: as `template`, but one secret may be the whole of it."""
        pieces = self.cut(text_of(text))
        name = None if len(pieces) != 1 or isinstance(pieces[0], str) else _secret_of(pieces[0])
        return self.template(text) if name is None else self.secret(name)

    def template(self, text: Any) -> str:
        """A text of ours with the same value; `NotCarried` where a secret is part of it."""
        found = ""
        for piece in self.cut(text_of(text)):
            if isinstance(piece, str):
                found += piece.replace("${", "$${")
            elif piece.known:
                found += text_of(piece.value).replace("${", "$${")
            elif _secrets(piece):
                raise NotCarried(f"it holds the secret {', '.join(_secrets(piece))}")
            else:
                found += self.filled_in(piece)
        return found

    def filled_in(self, tree: Expression) -> str:
        """`${...}` for a value that only a run knows; a parameter where it cannot be said."""
        text = f"${{{self.say(tree)}}}"
        try:
            compile_template(text)
        except ExpressionError:
            is_result = tree.kind == "context" and tree.value[0] == "needs" and tree.value[-1] == "result"
            text = f"${{{self._parameter(tree, 'success' if is_result else '')}}}"
        return text

    def cut(self, text: str) -> list[str | Expression]:
        """A text as its plain pieces and its folded expressions."""
        try:
            return [each if isinstance(each, str) else fold(each, self.known) for each in pieces(text)]
        except UnreadableExpression as error:
            raise NotCarried(f"an expression in it cannot be read: {error}") from None

    def plain(self, text: Any) -> str:
        """A text whose values are all known; the others stand as they are written. For descriptions."""
        try:
            found = self.cut(text_of(text))
        except NotCarried:
            return text_of(text)
        return "".join(
            each if isinstance(each, str) else text_of(each.value) if each.known else f"<{each.source}>"
            for each in found
        )

    def shell(self, text: str) -> tuple[str, dict[str, str]]:
        """A shell text and the environment variables that bring what is not known now."""
        written, probe = "", ""
        env: dict[str, str] = {}
        for piece in self.cut(text):
            if isinstance(piece, str) or piece.known:
                found = _OWN_REFERENCE.sub("$${", piece if isinstance(piece, str) else text_of(piece.value))
                written += found
                probe += found
                continue
            name = self._variable(piece, env)
            written += f"${{{name}}}"
            probe += f"${{env.{name}}}"
        try:
            shell_variables(probe)
        except ExpressionError as error:
            raise NotCarried(f"a value of a `${{{{ }}}}` cannot be put there: {error.message}") from None
        return written, env

    def _variable(self, piece: Expression, env: dict[str, str]) -> str:
        """The environment variable that holds a value, added to `env` if it is not there by itself."""
        if piece.kind == "context" and piece.value[0] == "env" and len(piece.value) == 2:
            return str(piece.value[1])
        secret = _secret_of(piece)
        if secret is None and _secrets(piece):
            raise NotCarried("an expression over a secret")
        value = self.filled_in(piece) if secret is None else self.secret(secret)
        said = piece.source.replace(".outputs.", ".") if secret is None else f"SECRET_{secret}"
        wanted = (clean_name(said, dots=False) or "VALUE").upper()[:60]
        name, number = wanted, 2
        while env.get(name, value) != value:
            name, number = f"{wanted}_{number}", number + 1
        env[name] = value
        return name


def status_of(step: str) -> str:
    """How a condition names the status of a step."""
    return f"steps[{_literal(step)}].status"


def any_failed(steps: list[str]) -> str:
    """A condition that is true when one of the steps failed, or never came to start because another did."""
    if not steps:
        return "false"
    if len(steps) == 1:
        return f"{status_of(steps[0])} in ['failed', 'cancelled']"
    statuses = f"[{', '.join(map(status_of, steps))}]"
    return f"'failed' in {statuses} or 'cancelled' in {statuses}"


def _is_result(end: JobEnd, wanted: str) -> str:
    """A condition that is true when a job ended with this result."""
    if wanted == "skipped":
        return f"not ({end.started})" if end.started else "false"
    parts = [f"({end.started})"] if end.started else []
    if wanted == "failure":
        return " and ".join([*parts, f"({end.failed})" if end.failed else "false"])
    if wanted == "success":
        return " and ".join([*parts, *([f"not ({end.failed})"] if end.failed else [])]) or "true"
    return "false"


_TOKEN = ("github", "token")
"""The secret GITHUB_TOKEN under another name."""


def _secrets(tree: Expression) -> list[str]:
    """The names of all secrets in an expression."""
    found = (each.value for each in walk(tree) if each.kind == "context")
    secrets = (("secrets", "GITHUB_TOKEN") if path == _TOKEN else path for path in found)
    return [path[1] if len(path) > 1 else "*" for path in secrets if path[0] == "secrets"]


def _secret_of(tree: Expression) -> str | None:
    """The name of the secret that an expression is and nothing else."""
    names = _secrets(tree) if tree.kind == "context" else []
    return names[0] if names and re.fullmatch(r"[A-Za-z_]\w*", names[0], re.ASCII) else None


def _literal(value: Any) -> str:
    """A constant as our conditions write it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (int, float)):
        return str(value)
    escaped = text_of(value).replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return f"'{escaped}'"
