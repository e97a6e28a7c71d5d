"""`${...}` in a text for bash: every reference becomes an environment variable, so a value is never code.

Pure. A scanner follows bash's quoting, as far as it decides what stands where a reference stands:

    bare word, $( ), ` `, ( )         "${CODOMYRMEX_1}"     quoted here, so that it stays one word
    "double quotes", <<EOF            ${CODOMYRMEX_1}       already protected
    'single', $'...', <<'EOF'         refused               bash would not look inside
    $(( )), (( )), [[ -eq ]], a[ ],   refused, unless it    bash runs commands that it finds
    ${x:...}, eval, let               must be a number      in a value there
    # comment                         left alone

Everything else in `${...}` is the shell's own: `${HOME}`, `${x:-1}`, `${#a[@]}`; a reference begins with one
of our roots or calls a function. `$${` is a literal `${`, as in every text.
Invariant: where the scanner is wrong about nesting, a value can be split or left out, yet not run: bash
never reads an expanded variable again outside the places that are refused. A program that itself reads an
argument as code (`bash -c`, `ssh`) does so with a value too; give it the value as an argument of its own.
Source: bash manual, 3.1.2 Quoting, 3.5 Shell Expansions, 6.5 Shell Arithmetic.
"""

from __future__ import annotations

import re
from functools import cache
from itertools import pairwise
from typing import Final

from codomyrmex.logistics.orchestration.project.expression_functions import FUNCTIONS
from codomyrmex.logistics.orchestration.project.expression_syntax import ROOTS, Node, Reference
from codomyrmex.logistics.orchestration.project.expression_tokens import ExpressionError
from codomyrmex.logistics.orchestration.project.references import parse_inside, piece_at

PREFIX: Final = "CODOMYRMEX_"

MAX_TEXT: Final = 128 * 1024  # what Linux takes as one argument of a program
MAX_DEPTH: Final = 100

_LOOK_BACK: Final = 400  # characters before a reference that are searched for `eval`, `let` and `name[`
_LOOK_AHEAD: Final = 2000  # characters after `[[` that are searched for its end


def shell_variables(text: str, *, undoes: bool = False) -> tuple[str, dict[str, str]]:
    """The text with variables in it, and the variables: `{"CODOMYRMEX_1": "${str(item)}"}`.

    Both are for `compile_template`: every `${` that bash is to see is written `$${` in the text. Equal
    references share a variable. `undoes` is for the text of a compensation: only there `${output}` is ours,
    since many a script has a variable of that name. Raises `ExpressionError`.
    """
    if "${" not in text:
        return text, {}
    if len(text) > MAX_TEXT:
        advice = "put it into a file of its own and run that"
        raise ExpressionError(f"a text for the shell has at most {MAX_TEXT:,} characters", None, advice)
    scanner = _Scanner(text, _ours(undoes=undoes))
    scanner.run()
    return "".join(scanner.written).replace("${", "$${"), scanner.variables


@cache
def _ours(*, undoes: bool) -> re.Pattern[str]:
    """The beginning of a `${...}` that is a reference and not the shell's own."""
    roots = "|".join(root for root in ROOTS if undoes or root != "output")
    functions = "|".join(FUNCTIONS)
    return re.compile(
        rf"\$\{{\s*+(?:(?:{roots})(?:\s*+\}}|\s*+\.|\s*+\[\s*+(?![@*\s])|\s*+\?\?|\s++)"
        rf"|output\s*+\.|(?:{functions})\s*+\()"
    )


@cache
def _interesting() -> re.Pattern[str]:
    return re.compile(r"[\\$'\"`()#<\n\[\]}]|\b(?:case|esac)\b")


_HEREDOC: Final = (
    r"<<(?P<tabs>-?)[ \t]*+"
    r"(?:'(?P<single>[^'\n]*)'|\"(?P<double>[^\"\n]*)\"|(?P<word>\\?[^\s;&|<>()'\"`]+))"
)
_NUMERIC_TEST: Final = r"(?:^|\s)-(?:eq|ne|lt|le|gt|ge|v)\s"
_SINGLE: Final = r"[^']*+'"
_ESCAPED: Final = r"(?:[^'\\]|\\[\s\S])*+'"


class _Frame:
    """One level of nesting: what it is, where it ends at the latest, and how many `case` are open in it."""

    __slots__ = ("cases", "end", "kind")

    def __init__(self, kind: str, end: int) -> None:
        self.kind, self.end, self.cases = kind, end, 0


# kinds whose quotes are quotes; in the others they are plain characters
_WORDS: Final = frozenset({"bare", "substitution", "subshell", "backtick", "brace"})


_CLOSED_BY: Final = {
    **dict.fromkeys(("subshell", "substitution", "arithmetic", "group"), ")"),
    "brace": "}",
    "square": "]",
}


class _Scanner:
    """Walks a text once, keeping the stack of what it is inside of."""

    __slots__ = (
        "at",
        "checked",
        "frames",
        "heredocs",
        "names",
        "ours",
        "roots",
        "text",
        "variables",
        "written",
    )

    def __init__(self, text: str, ours: re.Pattern[str]) -> None:
        self.text, self.at, self.ours = text, 0, ours
        self.checked = 0  # up to where a [[ ]] has been looked through
        self.frames = [_Frame("bare", len(text) + 1)]
        self.heredocs: list[re.Match[str]] = []
        self.names: dict[str, str] = {}
        self.roots: dict[str, Node] = {}
        self.variables: dict[str, str] = {}
        self.written: list[str] = []

    @property
    def top(self) -> _Frame:
        return self.frames[-1]

    def run(self) -> None:
        find = _interesting().search
        while (match := find(self.text, self.at)) is not None:
            while self.top.end <= match.start():
                self.frames.pop()
            self.copy_to(match.start())
            self.meet(match[0])
        self.copy_to(len(self.text))

    def copy_to(self, end: int) -> None:
        """Hand on what needs no change."""
        self.written.append(self.text[self.at : end])
        self.at = end

    def meet(self, mark: str) -> None:
        kind = self.top.kind
        if mark == "\\":
            self.copy_to(min(self.at + 2, len(self.text)))
        elif mark == "$":
            self.dollar()
        elif mark == '"' and kind not in ("heredoc", "arithmetic"):
            self.enter_or_leave("double", 1)
        elif mark == "'" and kind in _WORDS:
            self.literal(_SINGLE, 1)
        elif mark == "`":
            self.backtick()
        elif mark == "#" and kind in _WORDS - {"brace"} and self.at_word_start():
            self.copy_to(self.line_end(self.at))
        elif mark == "<" and kind in _WORDS - {"brace"}:
            self.redirection()
        elif mark == "\n" and self.heredocs and kind in _WORDS:
            self.copy_to(self.at + 1)
            self.heredoc(self.heredocs.pop(0))
        else:
            self.bracket(mark)

    def bracket(self, mark: str) -> None:
        top, size = self.top, len(mark)
        if mark == "(" and top.kind in _WORDS - {"brace"}:
            doubled = self.text.startswith("((", self.at)
            self.enter("arithmetic" if doubled else "subshell", 2 if doubled else 1)
            return
        if mark == "(" and top.kind in ("arithmetic", "group"):
            self.enter("group", 1)
            return
        if mark == "[" and top.kind in _WORDS and self.text.startswith("[[", self.at):
            self.refuse_numeric_test()
        if mark in ("case", "esac") and top.kind in _WORDS and self.at_command():
            top.cases = max(0, top.cases + (1 if mark == "case" else -1))
        if mark == _CLOSED_BY.get(top.kind) and not (mark == ")" and top.cases):
            self.frames.pop()
            size = 2 if top.kind == "arithmetic" and self.text.startswith("))", self.at) else 1
        self.copy_to(self.at + size)

    # -- what opens and closes

    def enter(self, kind: str, size: int, end: int | None = None) -> None:
        if len(self.frames) >= MAX_DEPTH:
            raise self.refused(
                self.at, f"the text nests deeper than {MAX_DEPTH} levels", "put it into a file"
            )
        self.frames.append(_Frame(kind, self.top.end if end is None else min(end, self.top.end)))
        self.copy_to(self.at + size)

    def enter_or_leave(self, kind: str, size: int) -> None:
        if self.top.kind == kind:
            self.frames.pop()
            self.copy_to(self.at + size)
        else:
            self.enter(kind, size)

    def backtick(self) -> None:
        """A back-quote closes the nearest open one, whatever is unfinished inside it."""
        kinds = [frame.kind for frame in self.frames]
        if "backtick" not in kinds:
            self.enter("backtick", 1)
            return
        del self.frames[len(kinds) - 1 - kinds[::-1].index("backtick") :]
        self.copy_to(self.at + 1)

    def brace(self) -> None:
        """A `${...}` of the shell; bash pairs single quotes inside it even between double ones."""
        self.enter("brace", 2)

    def dollar(self) -> None:
        text, at = self.text, self.at
        if text.startswith("$${", at):
            self.at += 1  # one dollar of the two: the shell's own from here on
            self.brace()
        elif text.startswith("${", at):
            if self.ours.match(text, at):
                self.reference()
            else:
                self.brace()
        elif text.startswith("$((", at):
            self.enter("arithmetic", 3)
        elif text.startswith("$[", at):
            self.enter("square", 2)
        elif text.startswith("$(", at):
            self.enter("substitution", 2)
        elif text.startswith("$'", at) and self.top.kind in _WORDS:
            self.literal(_ESCAPED, 2)
        else:
            self.copy_to(at + 1)

    def literal(self, pattern: str, opening: int) -> None:
        """A quoted stretch that bash does not look into: refused if a reference stands in it."""
        end = min(self.top.end, len(self.text))
        match = _pattern(pattern).match(self.text, self.at + opening, end)
        advice = "end the quotes before it: 'text '\"${item}\"' text'; a literal '${' is written '$${'"
        self.untouched(end if match is None else match.end(), "single quotes", advice)

    def untouched(self, end: int, what: str, advice: str) -> None:
        for match in self.ours.finditer(self.text, self.at, end):
            if self.text[match.start() - 1] != "$":
                raise self.refused(match.start(), f"a reference inside {what} stays as it is written", advice)
        self.written.append(self.text[self.at : end].replace("$${", "${"))
        self.at = end

    # -- here documents

    def redirection(self) -> None:
        if self.text.startswith("<<<", self.at):
            self.copy_to(self.at + 3)
            return
        match = _pattern(_HEREDOC).match(self.text, self.at)
        if match is None:
            self.copy_to(self.at + 1)
            return
        self.heredocs.append(match)
        self.copy_to(match.end())

    def heredoc(self, opened: re.Match[str]) -> None:
        quoted = opened["single"] if opened["single"] is not None else opened["double"]
        word = opened["word"] or ""
        if quoted is None and word.startswith("\\"):
            quoted = word[1:]
        end = self.heredoc_end(word if quoted is None else quoted, tabs=bool(opened["tabs"]))
        if quoted is None:
            self.enter("heredoc", 0, end)
        else:
            advice = f"write the mark without quotes: <<{quoted}"
            self.untouched(end, f"a here document whose mark is quoted ({quoted})", advice)

    def heredoc_end(self, word: str, *, tabs: bool) -> int:
        """Where the line of the mark begins, or the end of the text."""
        at = self.at
        while at < len(self.text):
            end = self.line_end(at)
            line = self.text[at:end]
            if (line.lstrip("\t") if tabs else line) == word:
                return at
            at = end + 1
        return len(self.text)

    # -- references

    def reference(self) -> None:
        piece, end = piece_at(self.text, self.at)
        source = piece[0].strip()
        root = self.roots.get(source)
        if root is None:
            root = self.roots[source] = parse_inside(piece).root
        if not _is_number(root):
            self.refuse_evaluated()
        name = self.variable(source, root)
        self.written.append(f'"${{{name}}}"' if self.top.kind in _WORDS else f"${{{name}}}")
        self.at = end

    def variable(self, source: str, root: Node) -> str:
        """The variable of a reference; its template gives text, or the marker of a secret."""
        name = self.names.get(source)
        if name is None:
            name = self.names[source] = f"{PREFIX}{len(self.names) + 1}"
            inside = canonical(root.value) if root.kind == "reference" else source
            secret = root.kind == "reference" and root.value.root == "secrets"
            self.variables[name] = f"${{{inside}}}" if secret else f"${{str({inside})}}"
        return name

    def refuse_evaluated(self) -> None:
        """Refuse the places where bash reads a value again, as arithmetic or as code."""
        kinds = {frame.kind for frame in self.frames}
        before = self.text[max(0, self.at - _LOOK_BACK) : self.at]
        command = before[max(map(before.rfind, "\n;&|(`{")) + 1 :].lstrip()
        word = before[max(map(before.rfind, " \t\n]")) + 1 :]
        if kinds & {"arithmetic", "group", "square"}:
            place = "arithmetic"
        elif "brace" in kinds:
            place = "a ${...} of the shell"
        elif command.startswith(("eval ", "let ")):
            place = f"an argument of {command[:4].strip()}"
        elif any(mark == "[" and (left.isalnum() or left == "_") for left, mark in pairwise(word)):
            place = "the subscript of an array"
        else:
            return
        raise self.evaluated(
            self.at, place, "compute it in the reference, as in ${index + 1} or ${int(item)}"
        )

    def refuse_numeric_test(self) -> None:
        if self.at < self.checked:
            return
        end = self.text.find("]]", self.at, self.at + _LOOK_AHEAD)
        self.checked = end = min(len(self.text), self.at + _LOOK_AHEAD) if end < 0 else end
        if not _pattern(_NUMERIC_TEST).search(self.text, self.at, end):
            return
        for match in self.ours.finditer(self.text, self.at, end):
            if not _is_number(parse_inside(piece_at(self.text, match.start())[0]).root):
                advice = "write [ ... -eq ... ] with single brackets, or ${int(item)}"
                raise self.evaluated(match.start(), "a numeric [[ ]]", advice)

    def evaluated(self, at: int, place: str, advice: str) -> ExpressionError:
        why = "bash would run commands that it finds in the value"
        return self.refused(at, f"a reference cannot stand in {place}: {why}", advice)

    # -- where things are

    def at_word_start(self) -> bool:
        return self.at == 0 or self.text[self.at - 1] in " \t\n;&|()"

    def at_command(self) -> bool:
        before = self.text[max(0, self.at - 40) : self.at].rstrip(" \t")
        return not before or before[-1] in "\n;&|(`{" or before.endswith(("do", "then", "else"))

    def line_end(self, at: int) -> int:
        end = self.text.find("\n", at)
        return len(self.text) if end < 0 else end

    def refused(self, at: int, message: str, advice: str) -> ExpressionError:
        lines = self.text.count("\n", 0, at)
        where = f" (line {lines + 1} of the text)" if "\n" in self.text else ""
        return ExpressionError(message + where, at + 1, advice)


def _is_number(root: Node) -> bool:
    """Whether an expression can give nothing but a number."""
    if root.kind == "reference":
        return bool(root.value.root == "index")
    return root.kind in ("arithmetic", "negate") or (
        root.kind == "call" and root.value in ("int", "len", "sum")
    )


@cache
def _pattern(source: str) -> re.Pattern[str]:
    return re.compile(source)


def canonical(reference: Reference) -> str:
    """A reference as every dialect reads it: names with dashes in brackets."""
    steps = f"steps[{_quoted(str(reference.step))}].{reference.field}"
    found = steps if reference.root == "steps" else reference.root
    for key in reference.path:
        if type(key) is int:
            found += f"[{key}]"
        elif re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", str(key)) and not str(key).startswith("__"):
            found += f".{key}"
        else:
            found += f"[{_quoted(str(key))}]"
    return found


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return f"'{escaped}'"
