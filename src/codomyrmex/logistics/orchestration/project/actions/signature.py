"""Reading actions from source text by `ast`: nothing is imported, nothing of the project runs.

Layer: actions. An `Outline` is what the top level of a module binds, branches of `if`, `try` and `with`
included. For each name there are three answers: a `Signature`; `None` where the name is there, or may be, but
only running the module would tell what it is (a worker is asked then); `KeyError` where it is plainly not
there.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from codomyrmex.logistics.orchestration.project.actions.annotations import json_type
from codomyrmex.logistics.orchestration.project.actions.description import ParameterDescription
from codomyrmex.logistics.orchestration.project.actions.docstrings import parameter_texts, summary_of

MAX_SOURCE_BYTES = 4 * 1024 * 1024
_KEEP_SIGNATURE = frozenset(
    {"staticmethod", "cache", "lru_cache", "no_type_check", "deprecated", "final", "override"}
)
_LATE_BINDERS = frozenset({"globals", "exec", "setattr", "vars"})
_DECLARED = ("effects", "resources", "timeout_s", "isolation", "name", "version")

Function = ast.FunctionDef | ast.AsyncFunctionDef


class SourceUnreadable(Exception):
    """A file that is no Python source for this interpreter; another one may well read it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """A function as its source tells it; `declared` is what `@action` was given."""

    name: str
    line: int
    summary: str
    parameters: tuple[ParameterDescription, ...]
    accepts_any: bool
    is_async: bool
    registered: bool = False
    declared: Mapping[str, Any] = field(default_factory=dict)
    returns: str | None = None
    is_generator: bool = False


@dataclass(frozen=True, slots=True)
class Imported:
    """A name that `from module import name` binds; `level` counts the dots."""

    level: int
    module: str
    name: str


@dataclass(slots=True)
class Outline:
    """What a module binds at its top level.

    `open_ended` means that names may be bound in ways that its text does not show.
    """

    path: str
    functions: dict[str, Function] = field(default_factory=dict)
    classes: dict[str, ast.ClassDef] = field(default_factory=dict)
    imports: dict[str, Imported] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    unclear: set[str] = field(default_factory=set)
    values: set[str] = field(default_factory=set)
    markers: set[str] = field(default_factory=set)
    open_ended: bool = False
    type_aliases: dict[str, str] = field(default_factory=dict)
    generators: set[int] = field(default_factory=set)
    """The `id` of each function's node that yields."""

    def signature(self, action: str) -> Signature | None:
        """The signature of a name, dotted for a class's method; see the module for None and KeyError."""
        owner, dot, method = action.partition(".")
        if dot:
            return self._method(owner, method)
        owner = self.aliases.get(owner, owner)
        function = self.functions.get(owner)
        if function is not None and owner not in self.unclear:
            return self._read(function, bound=0)
        if owner in self.unclear or owner in self.classes or owner in self.imports:
            return None
        renamed = self.declared_names().get(action)
        if renamed is not None:
            return self._read(self.functions[renamed], bound=0)
        if self.open_ended and action not in self.values:
            return None
        raise KeyError(action)

    def imported(self, name: str) -> Imported | None:
        """Where a name comes from when the module only passes it on."""
        name = self.aliases.get(name, name)
        return None if name in self.unclear else self.imports.get(name)

    def has(self, name: str) -> bool:
        """Whether the text binds a name to something that may be called."""
        tables = (self.functions, self.classes, self.imports, self.aliases, self.unclear)
        return any(name in table for table in tables)

    def known(self) -> list[str]:
        """The public names that may be actions, in the order of the text."""
        names = [*self.functions, *self.aliases, *self.imports, *self.unclear]
        return list(dict.fromkeys(name for name in names if not name.startswith("_")))

    def registered(self) -> list[str]:
        """The functions that `@action` declares, in the order of the text."""
        return [name for name, function in self.functions.items() if self._marker(function) is not None]

    def declared_names(self) -> dict[str, str]:
        """{name given to @action: function}."""
        found = {}
        for name in self.registered():
            marker = self._marker(self.functions[name])
            given = _literals(marker).get("name") if isinstance(marker, ast.Call) else None
            if isinstance(given, str):
                found[given] = name
        return found

    def _method(self, owner: str, method: str) -> Signature | None:
        found = self.classes.get(owner)
        if found is None:
            if owner in self.unclear or owner in self.imports or owner in self.aliases or self.open_ended:
                return None
            raise KeyError(f"{owner}.{method}")
        for node in found.body:
            if isinstance(node, Function) and node.name == method:
                kinds = {_tail(decorator) for decorator in node.decorator_list}
                return self._read(node, bound=1 if "classmethod" in kinds else 0, ignored="classmethod")
        if found.bases or found.decorator_list or found.keywords or "." in method:
            return None
        raise KeyError(f"{owner}.{method}")

    def _read(self, function: Function, *, bound: int, ignored: str = "") -> Signature | None:
        marker = self._marker(function)
        for decorator in function.decorator_list:
            if decorator is not marker and _tail(decorator) not in _KEEP_SIGNATURE | {ignored}:
                return None  # it may take other parameters than the function below it
        declared: dict[str, Any] = {}
        if isinstance(marker, ast.Call):
            declared = _literals(marker)
            if len(declared) != len(marker.keywords):
                return None  # an option that is computed
        doc = ast.get_docstring(function) or ""
        return Signature(
            name=function.name,
            line=function.lineno,
            summary=summary_of(doc),
            parameters=tuple(_parameters(function.args, parameter_texts(doc)))[bound:],
            accepts_any=function.args.kwarg is not None,
            is_async=isinstance(function, ast.AsyncFunctionDef),
            registered=marker is not None,
            declared=declared,
            returns=_text_of(function.returns),
            is_generator=id(function) in self.generators,
        )

    def _marker(self, function: Function) -> ast.expr | None:
        for decorator in function.decorator_list:
            target = decorator.func if isinstance(decorator, ast.Call) else decorator
            if ast.unparse(target) in self.markers:
                return decorator
        return None


def read_outline(path: str) -> Outline:
    """The outline of a file; raises `SourceUnreadable`, or OSError when it cannot be opened."""
    with open(path, "rb") as file:
        source = file.read(MAX_SOURCE_BYTES + 1)
    if len(source) > MAX_SOURCE_BYTES:
        raise SourceUnreadable(f"{path} is larger than {MAX_SOURCE_BYTES >> 20} MiB")
    return outline_of(source, path)


def outline_of(source: bytes, path: str) -> Outline:
    """The outline of a module's text; raises `SourceUnreadable`."""
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # those of the user's source are the user's to see, not ours
            tree = ast.parse(source, path)
    except SyntaxError as problem:
        raise SourceUnreadable(f"{path}:{problem.lineno or 1}: {problem.msg}") from None
    except (ValueError, RecursionError, MemoryError) as problem:
        raise SourceUnreadable(f"{path}: {problem}") from None
    outline = Outline(path)
    _Reader(outline, may_yield=b"yield" in source).read(tree.body, certain=True)
    return outline


class _Reader:
    """Fills an outline from statements; a name that a branch binds a second time has become unclear."""

    def __init__(self, outline: Outline, *, may_yield: bool) -> None:
        self._outline = outline
        self._may_yield = may_yield
        self._in_branch: set[str] = set()

    def read(self, body: list[ast.stmt], *, certain: bool) -> None:
        for node in body:
            if isinstance(node, Function | ast.ClassDef):
                self._define(node, certain)
            elif isinstance(node, ast.Import | ast.ImportFrom):
                self._import(node, certain)
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                self._assign(node)
            else:
                self._other(node)

    def _define(self, node: Function | ast.ClassDef, certain: bool) -> None:
        if isinstance(node, Function):
            if any(_tail(decorator) == "overload" for decorator in node.decorator_list):
                return
            if node.name == "__getattr__":
                self._outline.open_ended = True
        if not self._bind(node.name, certain):
            return
        if isinstance(node, Function):
            self._drop_body(node)
            self._outline.functions[node.name] = node
        else:
            for method in node.body:
                if isinstance(method, Function):
                    self._drop_body(method)
            self._outline.classes[node.name] = node

    def _drop_body(self, node: Function) -> None:
        """Keeps of a body what is read of it, so that an outline stays small."""
        if self._may_yield and _yields(node):
            self._outline.generators.add(id(node))
        del node.body[1:]

    def _import(self, node: ast.Import | ast.ImportFrom, certain: bool) -> None:
        outline = self._outline
        for alias in node.names:
            bound = alias.asname or alias.name
            if isinstance(node, ast.Import) and not alias.asname:
                bound = alias.name.partition(".")[0]
            if alias.name == "*":
                outline.open_ended = True
            elif isinstance(node, ast.ImportFrom):
                module = node.module or ""
                if module.split(".")[0] == "codomyrmex" and alias.name in ("action", "current_task"):
                    outline.markers.add(bound if alias.name == "action" else f"{bound}.action")
                if self._bind(bound, certain):
                    outline.imports[bound] = Imported(node.level, module, alias.name)
            else:
                if alias.name.split(".")[0] == "codomyrmex":
                    named = alias.asname or alias.name
                    outline.markers |= {f"{named}.action", f"{bound}.action"}
                if self._bind(bound, certain):
                    outline.unclear.add(bound)

    def _assign(self, node: ast.Assign | ast.AnnAssign) -> None:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            for name in _names(target):
                self._forget(name)
                if isinstance(node.value, ast.Name) and isinstance(target, ast.Name):
                    self._outline.aliases[name] = node.value.id
                elif node.value is None or isinstance(node.value, _PLAIN_VALUES):
                    self._outline.values.add(name)
                else:
                    self._outline.unclear.add(name)
                    if isinstance(node.value, ast.Subscript | ast.BinOp) and isinstance(target, ast.Name):
                        self._outline.type_aliases[name] = ast.unparse(node.value)
        self._watch(node)

    def _other(self, node: ast.stmt) -> None:
        """Branches are read as if they were taken; loops and statements that bind names make them unclear."""
        blocks = [getattr(node, name, None) or [] for name in ("body", "orelse", "finalbody")]
        blocks += [handler.body for handler in getattr(node, "handlers", [])]
        blocks += [case.body for case in getattr(node, "cases", [])]
        for block in blocks:
            self.read(block, certain=False)
        for target in (getattr(node, "target", None), *(item.optional_vars for item in _items(node))):
            if isinstance(target, ast.expr):
                self._outline.unclear.update(_names(target))
        if not any(blocks):
            self._watch(node)

    def _watch(self, node: ast.stmt) -> None:
        for inner in ast.walk(node):
            if isinstance(inner, ast.Name) and inner.id in _LATE_BINDERS:
                self._outline.open_ended = True

    def _bind(self, name: str, certain: bool) -> bool:
        """False where the name has two meanings, one of them in a branch."""
        outline = self._outline
        bound = name in outline.functions or name in outline.classes or name in outline.imports
        if bound and (not certain or name in self._in_branch):
            outline.unclear.add(name)
            return False
        self._forget(name)
        if not certain:
            self._in_branch.add(name)
        return True

    def _forget(self, name: str) -> None:
        outline = self._outline
        tables: tuple[dict[str, Any], ...] = (outline.functions, outline.classes, outline.imports)
        for table in (*tables, outline.aliases, outline.type_aliases):
            table.pop(name, None)
        outline.unclear.discard(name)
        outline.values.discard(name)


_PLAIN_VALUES = (ast.Constant, ast.List, ast.Dict, ast.Set, ast.Tuple, ast.JoinedStr)


def _items(node: ast.stmt) -> list[ast.withitem]:
    return node.items if isinstance(node, ast.With | ast.AsyncWith) else []


def _names(target: ast.expr) -> Iterator[str]:
    for inner in ast.walk(target):
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
            yield inner.id


def _yields(function: Function) -> bool:
    """Whether a call gives a generator; functions inside it are others."""
    waiting: list[ast.AST] = [*function.body]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Yield | ast.YieldFrom):
            return True
        if not isinstance(node, Function | ast.Lambda | ast.ClassDef):
            waiting.extend(ast.iter_child_nodes(node))
    return False


def _tail(decorator: ast.expr) -> str:
    """`lru_cache` of `@functools.lru_cache(maxsize=None)`."""
    target = decorator.func if isinstance(decorator, ast.Call) else decorator
    if isinstance(target, ast.Attribute):
        return target.attr
    return target.id if isinstance(target, ast.Name) else ""


def _literals(marker: ast.Call) -> dict[str, Any]:
    found = {}
    for keyword in marker.keywords:
        if keyword.arg in _DECLARED:
            try:
                found[keyword.arg] = ast.literal_eval(keyword.value)
            except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
                continue
    return found


def _parameters(arguments: ast.arguments, texts: Mapping[str, str]) -> Iterator[ParameterDescription]:
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults))
    defaults += arguments.defaults
    for number, (argument, default) in enumerate(zip(positional, defaults, strict=True)):
        by_position = number < len(arguments.posonlyargs)
        yield _parameter(argument, default, texts.get(argument.arg, ""), positional_only=by_position)
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield _parameter(argument, default, texts.get(argument.arg, ""), positional_only=False)


def _text_of(note: ast.expr | None) -> str | None:
    """An annotation as text, without the quotes around it."""
    if isinstance(note, ast.Constant) and isinstance(note.value, str):
        return note.value
    return None if note is None else ast.unparse(note)


def _parameter(
    argument: ast.arg, default: ast.expr | None, description: str, *, positional_only: bool
) -> ParameterDescription:
    text = _text_of(argument.annotation)
    return ParameterDescription(
        name=argument.arg,
        annotation=text,
        json_type=json_type(text),
        required=default is None,
        default=None if default is None else ast.unparse(default),
        positional_only=positional_only,
        description=description,
    )
