"""Judging a constant by the annotation of the parameter that it is given to.

Layer: actions; pure. Only what is plainly wrong is said to be: an annotation that is not understood accepts
everything, a text with a reference in it is judged by nobody, and what Python's own typing lets pass (an int
for a float, true for an int) passes. Text is accepted for a `Path` or a `date`: a file has no other way to
write one. The same annotation as a JSON Schema is made by `parameter_schema`.
"""

from __future__ import annotations

import ast
import datetime
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from codomyrmex.logistics.orchestration.project.actions.annotation_trees import (
    arms,
    base_name,
    is_none,
    members,
    named,
    parse,
)
from codomyrmex.logistics.orchestration.project.actions.named_types import Lookup, NamedType, nothing

_KINDS: Mapping[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "list": (list,),
    "dict": (dict,),
    "Path": (str,),
    "None": (type(None),),
    "Mapping": (dict,),
    "MutableMapping": (dict,),
    "date": (str,),
    "datetime": (str,),
    "UUID": (str,),
    "Decimal": (str, int, float),
}
_WORDS: Mapping[str, str] = {
    "None": "null", "Path": "a path (text)", "date": "a date (text like 2026-03-31)",
    "datetime": "a moment (text like 2026-03-31T12:00:00Z)", "UUID": "a UUID (text)", "Decimal": "a decimal number",
}  # fmt: skip


def _read_uuid(text: str) -> None:
    from uuid import UUID

    UUID(text)


_READERS: Mapping[str, Callable[[str], object]] = {
    "date": datetime.date.fromisoformat,
    "datetime": datetime.datetime.fromisoformat,
    "UUID": _read_uuid,
}
_JSON_TYPES: Mapping[str, str] = {
    "str": "string", "int": "integer", "float": "number", "bool": "boolean", "list": "array",
    "dict": "object", "Path": "string", "Mapping": "object", "MutableMapping": "object", "Sequence": "array",
}  # fmt: skip
MAX_CHOICES_SHOWN = 12

Path = tuple[str | int, ...]


class Wrong(NamedTuple):
    """A value inside a constant that is wrong; `choices` are the texts of which it should be one."""

    path: Path
    value: Any
    wanted: str
    choices: tuple[str, ...] = ()


@dataclass(slots=True)
class Judge:
    """What values a type accepts: those of `types`, and no others of a type in `choices` than stand there.

    `list_items` and `dict_items` judge what a list or a mapping holds, `fields` the values of the keys of a record;
    `reads` raises ValueError for a text that is none of the kind.
    """

    types: tuple[type, ...]
    wanted: str
    list_items: Judge | None = None
    dict_items: Judge | None = None
    choices: dict[type, tuple[Any, ...]] = field(default_factory=dict)
    fields: dict[str, Judge | None] | None = None
    required: frozenset[str] = frozenset()
    record: str = ""
    reads: Callable[[str], object] | None = None

    def accepts(self, value: Any) -> bool:
        """Whether nothing is wrong with a value; False may also mean that it takes a closer look."""
        kind = type(value)
        if kind not in self.types or kind in self.choices:
            return False
        if kind is list:
            items = self.list_items
            return items is None or all(map(items.accepts, value))
        if kind is str:
            return self.reads is None
        return kind is not dict or (self.dict_items is None and self.fields is None)

    def faults(self, value: Any, path: Path = ()) -> Iterator[Wrong]:
        """Everything plainly wrong, with its path inside the value."""
        kind = type(value)
        if kind is str and ("${" in value or "{{" in value):
            return
        if kind is dict and ("$type" in value or "$secret" in value):
            return
        if not issubclass(kind, self.types) or not self._reads(value):
            yield Wrong(path, value, self.wanted)
        elif kind in self.choices:
            if value not in self.choices[kind]:
                yield Wrong(path, value, self.wanted, tuple(map(str, self.choices[kind])))
        elif kind is list and self.list_items is not None:
            for number, item in enumerate(value):
                yield from self.list_items.faults(item, (*path, number))
        elif kind is dict and self.fields is not None:
            yield from self._field_faults(value, path, self.fields)
        elif kind is dict and self.dict_items is not None:
            for key, item in value.items():
                yield from self.dict_items.faults(item, (*path, key))

    def _reads(self, value: Any) -> bool:
        if self.reads is None or type(value) is not str:
            return True
        try:
            self.reads(value)
        except ValueError:
            return False
        return True

    def _field_faults(
        self, value: Mapping[str, Any], path: Path, fields: Mapping[str, Judge | None]
    ) -> Iterator[Wrong]:
        for name in fields:
            if name in self.required and name not in value:
                yield Wrong(path, value, f"{self.record} with the key {name!r}")
        for key, item in value.items():
            if key not in fields:
                wanted = f"only the keys of {self.record} ({', '.join(fields)})"
                yield Wrong((*path, key), item, wanted)
                continue
            judge = fields[key]
            if judge is not None:
                yield from judge.faults(item, (*path, key))


def read_judge(annotation: str | None, *, or_none: bool = False, lookup: Lookup = nothing) -> Judge | None:
    """The judge of an annotation's text; None where it is not understood or accepts anything.

    `or_none` lets null pass as well: the parameter's default is None. `lookup` says what the names of the
    project mean.
    """
    return _plain_judge(annotation, or_none) if lookup is nothing else _made(annotation, or_none, lookup)


@lru_cache(maxsize=1024)
def _plain_judge(annotation: str | None, or_none: bool) -> Judge | None:
    return _made(annotation, or_none, nothing)


def _made(annotation: str | None, or_none: bool, lookup: Lookup) -> Judge | None:
    tree = parse(annotation)
    found = None if tree is None else _judge(tree, lookup, {})
    if found is None or not or_none or type(None) in found.types:
        return found
    return _join([found, Judge((type(None),), "null")])


@lru_cache(maxsize=1024)
def json_type(annotation: str | None) -> str | None:
    """The one JSON Schema type that an annotation stands for, `X | None` taken as X."""
    tree = parse(annotation)
    if tree is None:
        return None
    kinds = {_JSON_TYPES.get(base_name(arm) or "") for arm, _ in arms(tree, nothing) if not is_none(arm)}
    return kinds.pop() if len(kinds) == 1 else None


Records = dict[str, Judge]
"""The records met on the way down, for one that holds itself."""


def _judge(node: ast.expr, lookup: Lookup, records: Records) -> Judge | None:
    judges = []
    for arm, scope in arms(node, lookup):
        found = _judge_of_one(arm, scope, records)
        if found is None:
            return None
        judges.append(found)
    return _join(judges)


def _judge_of_one(node: ast.expr, lookup: Lookup, records: Records) -> Judge | None:
    known = named(node, lookup)
    if known is not None:
        return _judge_of_named(known, records)
    name = base_name(node)
    if name == "Literal" and isinstance(node, ast.Subscript):
        choices = [each.value for each in members(node) if isinstance(each, ast.Constant)]
        return _judge_of_choices(choices) if len(choices) == len(members(node)) else None
    if name is None or name not in _KINDS:
        return None
    types, items = _KINDS[name], None
    if isinstance(node, ast.Subscript):
        items = _judge(members(node)[-1], lookup, records)
    return Judge(
        types,
        _WORDS.get(name) or ast.unparse(node),
        list_items=items if types == (list,) else None,
        dict_items=items if types == (dict,) else None,
        reads=_READERS.get(name),
    )


def _judge_of_named(known: NamedType, records: Records) -> Judge | None:
    if known.choices is not None:
        return _judge_of_choices(list(known.choices))
    if known.fields is None:
        return None
    found = records.get(known.name)
    if found is None:
        found = records[known.name] = Judge((dict,), known.name, fields={}, record=known.name)
        found.required = frozenset(each.name for each in known.fields if each.required)
        for each in known.fields:  # into the same dict, which a union with this record shares
            tree = parse(each.annotation)
            assert found.fields is not None
            found.fields[each.name] = None if tree is None else _judge(tree, known.lookup, records)
    return found


def _judge_of_choices(values: list[Any]) -> Judge | None:
    choices: dict[type, tuple[Any, ...]] = {}
    for value in values:
        if not isinstance(value, str | int | float | None):
            return None
        choices[type(value)] = (*choices.get(type(value), ()), value)
    shown = ["null" if value is None else repr(value) for value in values[:MAX_CHOICES_SHOWN]]
    shown += ["..."] if len(values) > MAX_CHOICES_SHOWN else []
    return Judge(tuple(choices), " or ".join(shown), choices=choices) if choices else None


def _join(judges: list[Judge]) -> Judge:
    """One judge that accepts what any of them accepts; the items of two kinds of list are not judged."""
    if len(judges) == 1:
        return judges[0]
    lists = [judge for judge in judges if list in judge.types]
    dicts = [judge for judge in judges if dict in judge.types]
    texts = [judge for judge in judges if str in judge.types]
    types = tuple(dict.fromkeys(kind for judge in judges for kind in judge.types))
    choices = {}
    for kind in types:
        having = [judge for judge in judges if kind in judge.types]
        if all(kind in judge.choices for judge in having):
            choices[kind] = tuple(value for judge in having for value in judge.choices[kind])
    only = dicts[0] if len(dicts) == 1 else Judge((), "")
    return Judge(
        types,
        " or ".join(dict.fromkeys(judge.wanted for judge in judges)),
        list_items=lists[0].list_items if len(lists) == 1 else None,
        dict_items=only.dict_items,
        choices=choices,
        fields=only.fields,
        required=only.required,
        record=only.record,
        reads=texts[0].reads if len(texts) == 1 else None,
    )
