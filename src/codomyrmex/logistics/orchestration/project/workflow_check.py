"""Every fault of a workflow tree that shows without compiling it, and the way from a tree to its document.

Layer: pure. Two passes that both always run, so that all faults come at once: the schema, and what a schema
cannot say (one kind of step, no key in two spellings, no name twice, defaults of the declared type).
Expressions, references, unknown parents and cycles are the compiler's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from codomyrmex.exceptions import Fault, ValidationError
from codomyrmex.logistics.orchestration.project.schema_rules import NAME_PATTERN
from codomyrmex.logistics.orchestration.project.workflow_amount_check import (
    duration_faults,
    resource_faults,
    spelling_faults,
)
from codomyrmex.logistics.orchestration.project.workflow_document import (
    BUILT_IN_MODULES,
    VALUES_INSIDE,
    Document,
    TaggedList,
    TaggedParameters,
    normalise,
    split_call,
    steps_of,
)
from codomyrmex.logistics.orchestration.project.workflow_faults import (
    STEP_KINDS,
    Path,
    Placed,
    explain,
    fault,
    nearest,
)
from codomyrmex.logistics.orchestration.project.workflow_kind_check import (
    WITH_PARTS,
    part_faults,
    waiting_faults,
)
from codomyrmex.logistics.orchestration.project.workflow_kinds import (
    COMPENSATION,
    STEP_LISTS,
    WAITING_KINDS,
    compensation_name,
)
from codomyrmex.logistics.orchestration.project.workflow_parameters import check_declaration, describe
from codomyrmex.logistics.orchestration.project.workflow_schema import MAX_STEPS, schema
from codomyrmex.logistics.orchestration.project.workflow_words import STEP_WORDS

_NAME = re.compile(NAME_PATTERN[1:-1])
MAX_FAULTS = 100
"""So many faults are listed; of the rest only the number is told."""


def check(tree: Any) -> list[Placed]:
    """The faults of a tree in long or short form, each with its place, in the order of the tree.

    At most MAX_FAULTS; when there are more, the last says how many.
    """
    faults, more = _schema_faults(tree)
    if isinstance(tree, dict):
        faults.extend(_meaning_faults(tree))
    order = {key: number for number, key in enumerate(tree)} if isinstance(tree, dict) else {}
    faults.sort(key=lambda placed: _sort_key(placed[0], order))
    more += max(0, len(faults) - MAX_FAULTS)
    del faults[MAX_FAULTS:]
    if more:
        faults.append((faults[-1][0], Fault(message=f"and {more:,} more", code="more")))
    return faults


def checked_document(tree: Mapping[str, Any], *, isolation: str | None, subject: str) -> Document:
    """The canonical document of a tree made in Python; ValidationError lists every fault."""
    bare = dict(tree)
    for name in STEP_LISTS:
        if name in tree:
            bare[name] = [_without_values(step) for step in tree[name]]
    if "outputs" in bare and isinstance(bare["outputs"], dict):
        bare["outputs"] = {}
    faults = [found for _, found in check(bare)]
    document = {} if faults else normalise(tree)
    if not faults:
        faults = _tag_values(document)
    if faults:
        raise ValidationError(faults, subject=subject)
    if isolation not in (None, "process"):
        document["isolation"] = isolation
    return document


def _without_values(step: Mapping[str, Any]) -> dict[str, Any]:
    """The step as the schema can see it: values of Python may be more than JSON."""
    bare = dict(step)
    if isinstance(bare.get("parameters"), dict):
        bare["parameters"] = {}
    foreach = bare.get("foreach")
    if isinstance(foreach, list):
        bare["foreach"] = []
    elif isinstance(foreach, dict):
        bare["foreach"] = {key: [] if isinstance(each, list) else each for key, each in foreach.items()}
    cache, waits = bare.get("cache"), bare.get("wait_for")
    if isinstance(cache, dict) and isinstance(cache.get("also"), list):
        bare["cache"] = {**cache, "also": []}
    if isinstance(waits, dict) and "default" in waits:
        bare["wait_for"] = {**waits, "default": None}
    if isinstance(bare.get(COMPENSATION), dict):
        bare[COMPENSATION] = _without_values(bare[COMPENSATION])
    return bare


def check_tags(document: Document) -> list[Placed]:
    """Faults of `{"$type": ...}` values that a file holds and that no type reads."""
    from codomyrmex.logistics.orchestration.project.values import Undecodable, from_tagged

    faults: list[Placed] = []
    for holder, key, path in _value_trees(document):
        try:
            from_tagged(holder[key], classes=False)
        except (Undecodable, ValueError, TypeError, KeyError) as problem:
            advice = 'a value that is not JSON is written like {"$type": "date", "value": "2026-03-31"}'
            faults.append((path, fault(path, document, str(problem), code="wrong_value", advice=advice)))
    return faults


def _tag_values(document: Document) -> list[Fault]:
    """Tag in place what is not JSON in a document made in Python; the faults are what cannot be kept."""
    from codomyrmex.logistics.orchestration.project.values import Unserialisable, to_tagged

    faults: list[Fault] = []
    for holder, key, path in _value_trees(document):
        if type(holder[key]) in (TaggedParameters, TaggedList):
            holder[key] = [*holder[key]] if type(holder[key]) is TaggedList else {**holder[key]}
            continue
        try:
            holder[key] = to_tagged(holder[key], root=key)
        except Unserialisable as problem:
            message = f"this {problem.reason or f'is a {problem.type_name}, which cannot be kept'}"
            advice = "pass JSON-able values (text, numbers, lists, dicts, dates, paths, dataclasses)"
            found = fault(path[:-1], document, message, code="unserialisable", advice=advice)
            faults.append(replace(found, path=f"{found.path}.{problem.path}".lstrip(".")))
    return faults


def _value_trees(document: Document) -> Iterator[tuple[dict[str, Any], str, Path]]:
    """Where values of the user stand: the holder, the key in it, and the place."""
    for place, step in steps_of(document):
        for key in ("parameters", "foreach"):
            if key in step and not isinstance(step[key], str):
                yield step, key, (*place, key)
        for part, key in VALUES_INSIDE:
            if key in step.get(part, ()):
                yield step[part], key, (*place, part, key)
    if "outputs" in document:
        yield document, "outputs", ("outputs",)


@cache
def _validator(name: str | None) -> Any:
    """The validator of a whole workflow, or of one of its definitions."""
    import jsonschema_rs

    whole = schema()
    part = whole if name is None else {"$ref": f"#/$defs/{name}", "$defs": whole["$defs"]}
    return jsonschema_rs.Draft202012Validator(part)


def _schema_faults(tree: Any) -> tuple[list[Placed], int]:
    """The first faults that the schema finds, and about how many there are beside."""
    if not isinstance(tree, dict):
        message = "a workflow file holds a mapping with `name` and `steps`"
        found = fault((), tree, message, value=tree, code="wrong_type", advice=_on_no_mapping(tree))
        return [((), found)], 0
    if _is_plain(tree):
        return [], 0
    try:
        if _validator(None).is_valid(tree):
            return [], 0
        return _explained_faults(tree)
    except ValueError:  # only from a workflow made in Python: the validator reads nothing but JSON
        return _foreign_faults(tree), 0


_PLAIN_TREE = frozenset(("codomyrmex", "name", "steps"))
_PLAIN_STEP = frozenset(("name", "module", "action", "parameters", "dependencies"))
_FEW_STEPS = 50


def _is_plain(tree: dict[str, Any]) -> bool:
    """Whether the schema can have nothing against it: a short workflow of mere calls. False says nothing.

    To load the validator and to build it takes 12 ms, the longest that a small script waits for at its start.
    """
    steps = tree.get("steps")
    return (
        tree.keys() <= _PLAIN_TREE
        and _is_version(tree.get("codomyrmex", 1))
        and _is_name(tree.get("name"))
        and type(steps) is list
        and 0 < len(steps) <= _FEW_STEPS
        and all(map(_is_plain_step, steps))
    )


def _is_plain_step(step: Any) -> bool:
    if type(step) is not dict or not step.keys() <= _PLAIN_STEP:
        return False
    needs = step.get("dependencies", [])
    return (
        _is_name(step.get("name"))
        and type(step.get("module")) is str
        and type(step.get("action")) is str
        and type(step.get("parameters", {})) is dict
        and (type(needs) is list)
        and all(map(_is_name, needs))
    )


def _is_version(value: Any) -> bool:
    return type(value) is int and value == 1


def _is_name(value: Any) -> bool:
    return type(value) is str and _NAME.fullmatch(value) is not None


def _explained_faults(tree: dict[str, Any]) -> tuple[list[Placed], int]:
    """The steps are looked at one by one: the validator makes a costly object of each error at once."""
    faults: dict[tuple[Path, str], Placed] = {}
    more = 0

    def collect(validator: Any, value: Any, place: Path) -> None:
        nonlocal more
        for error in validator.iter_errors(value):
            more += max(0, _count(error) - MAX_FAULTS)
            for path, found in explain(error, place, tree, schema(), limit=MAX_FAULTS):
                faults.setdefault((path, found.code), (path, found))

    whole = dict(tree)
    lists: list[tuple[str, list[Any]]] = []
    for name in STEP_LISTS:
        steps = tree.get(name)
        if not isinstance(steps, list) or not steps:
            continue
        if len(steps) > MAX_STEPS:
            message = f"a workflow has at most {MAX_STEPS:,} steps, this one has {len(steps):,}"
            return [((name,), fault((name,), tree, message, code="too_many"))], 0
        whole[name] = [_GOOD_STEP]
        lists.append((name, steps))
    collect(_validator(None), whole, ())
    for name, steps in lists:
        validator = _validator("step" if name == "steps" else "handler")
        for number, step in enumerate(steps):
            if validator.is_valid(step):
                continue
            if len(faults) < MAX_FAULTS:
                collect(validator, step, (name, number))
            else:
                more += 1
    return list(faults.values()), more


_GOOD_STEP = {"name": "a", "run": "true"}


def _count(error: Any) -> int:
    """How many faults a schema error stands for."""
    if error.kind.name == "oneOf":
        return 0
    return len(error.kind.unexpected) if error.kind.name == "additionalProperties" else 1


def _foreign_faults(tree: dict[str, Any]) -> list[Placed]:
    """Values of Python where only JSON may stand: an `env` with a Path, a label that is a date."""
    faults: list[Placed] = []
    waiting: list[tuple[Path, Any]] = [((), tree)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [((*path, str(key)), each) for key, each in reversed(value.items())]
            wrong = next((key for key in value if not isinstance(key, str)), None)
            if wrong is not None:
                message = f"a key is text; got {describe(wrong)}"
                faults.append((path, fault(path, tree, message, code="wrong_type")))
        elif isinstance(value, (list, tuple)):
            waiting += [((*path, number), each) for number, each in reversed(list(enumerate(value)))]
        elif not isinstance(value, (str, int, float, type(None))):
            advice = "values of other types may stand in `parameters`; here write text"
            message = "this is written to files as it is, so it must be text or a number"
            faults.append((path, fault(path, tree, message, value=value, code="wrong_type", advice=advice)))
    return faults


def _on_no_mapping(tree: Any) -> str | None:
    if isinstance(tree, list):
        return "put the list under `steps:` and write `name: ...` above it"
    if tree is None:
        return "the file is empty; `codomyrmex init` writes a first workflow"
    return None


def _sort_key(path: Path, order: Mapping[str, int]) -> tuple[int, ...]:
    """In the order of the file at the top, then by item: faults of one step stand together."""
    first = order.get(str(path[0]), len(order)) if path else -1
    second = path[1] if len(path) > 1 and isinstance(path[1], int) else -1
    return (first, second)


def _meaning_faults(tree: dict[str, Any]) -> Iterator[Placed]:
    """Faults that the schema cannot see.

    Tolerant of every type, since the schema may have found fault too.
    """
    declarations = tree.get("parameters")
    if isinstance(declarations, dict):
        for name, declaration in declarations.items():
            if isinstance(declaration, dict):
                yield from _declaration_faults(name, declaration, tree)
    defaults = tree.get("defaults")
    if isinstance(defaults, dict):
        yield from _shared_faults(("defaults",), defaults, tree)
    yield from spelling_faults((), tree, tree)
    yield from duration_faults((), tree, tree)
    yield from _all_step_faults(tree)


def _all_step_faults(tree: dict[str, Any]) -> Iterator[Placed]:
    first_of: dict[str, Path] = {}
    undone: list[str] = []
    for key in STEP_LISTS:
        steps = tree.get(key)
        if not isinstance(steps, list) or len(steps) > MAX_STEPS:
            continue
        for number, step in enumerate(steps):
            if not isinstance(step, dict):
                continue
            place: Path = (key, number)
            name = step.get("name")
            if isinstance(name, str) and first_of.setdefault(name, place) != place:
                first = first_of[name]
                yield _doubled(place, name, f"{first[0]}[{first[1]}]", tree)
            elif COMPENSATION in step and isinstance(name, str):
                undone.append(name)
            yield from _step_faults(place, step, tree)
    for name in undone:
        other = first_of.get(compensation_name(name))
        if other is not None:
            yield _doubled(other, compensation_name(name), f"the compensation of {name!r}", tree)


def _doubled(place: Path, name: str, owner: str, tree: Any) -> Placed:
    path = (*place, "name")
    message = f"the name {name!r} is taken by {owner}"
    return path, fault(
        path, tree, message, code="duplicate_name", got=repr(name), advice="give each step its own"
    )


def _declaration_faults(name: str, declaration: dict[str, Any], tree: Any) -> Iterator[Placed]:
    path: Path = ("parameters", name)
    default = declaration.get("default")
    if isinstance(default, str) and "${" in default.replace("$${", ""):
        advice: str | None
        message = f"a default is a plain value, not a reference; got {describe(default)}"
        advice = "leave it out and give the value with -p, or use the reference in the step"
        yield (*path, "default"), fault((*path, "default"), tree, message, code="wrong_value", advice=advice)
        return
    if declaration.get("type") is not None and not isinstance(declaration["type"], str):
        return
    for key, error in check_declaration(declaration):
        place = (*path, key)
        kind = declaration.get("type")
        of_kind = f" for type {kind}" if kind and not error.wanted.startswith("one of") else ""
        advice = f"write {key}: [{default}]" if kind == "list" and key == "default" else None
        message = f"{error.wanted} is needed{of_kind}; got {error.got}"
        yield place, fault(place, tree, message, code="wrong_type", got=error.got, advice=advice)


def _step_faults(path: Path, step: dict[str, Any], tree: Any) -> Iterable[Placed]:
    """Most steps have none: the tests are ordered so that they cost little."""
    faults = _shared_faults(path, step, tree)
    if "run" in step:
        faults += _run_faults(path, step, tree)
    plain = "run" in step or ("module" in step and "action" in step)
    if not plain or not (_BESIDE_RUN if "run" in step else _BESIDE_MODULE).isdisjoint(step):
        faults += [*_kind_faults(path, step, tree), *_call_faults(path, step, tree)]
    if not WITH_PARTS.isdisjoint(step):
        faults += part_faults(path, step, tree)
    inner = step.get(COMPENSATION)
    if isinstance(inner, dict) and path[-1] != COMPENSATION:
        faults += _step_faults((*path, COMPENSATION), inner, tree)
    return faults


_BESIDE_MODULE = frozenset({"call", *WAITING_KINDS})
_BESIDE_RUN = _BESIDE_MODULE | {"module", "action"}


def _kind_faults(path: Path, step: dict[str, Any], tree: Any) -> Iterator[Placed]:
    undoes = path[-1] == COMPENSATION
    kinds = [key for key in STEP_KINDS if key in step and not (undoes and key in WAITING_KINDS)]
    noun = "a compensation" if undoes else "a step"
    if len(kinds) > 1 or (len(kinds) == 1 and kinds[0] != "module" and "action" in step):
        both = " and ".join(f"`{key}`" for key in (*kinds, "action")[: max(2, len(kinds))] if key in step)
        advice = "keep one" if undoes else "keep one, or make two steps of it"
        message = f"{noun} does one thing, this one has {both}"
        yield path, fault(path, tree, message, code="two_kinds", advice=advice)
    elif kinds == ["module"] and "action" not in step:
        advice = "write `action: NAME`, the function of the module to call"
        yield path, fault(path, tree, "`module` without `action`", code="missing_key", advice=advice)
    elif not kinds and "action" in step:
        advice = "write `module: NAME`, where the function is"
        yield path, fault(path, tree, "`action` without `module`", code="missing_key", advice=advice)
    elif not kinds and not _is_told_of(step):
        waiting = "" if undoes else f", or waits: {', '.join(f'`{kind}`' for kind in WAITING_KINDS)}"
        message = f"{noun} says what to do: `run`, `call`, or `module` and `action`{waiting};"
        advice = "for example `run: [make, test]` or `call: mypkg.io:list_files`"
        yield path, fault(path, tree, f"{message} this one has none of them", code="no_kind", advice=advice)
    elif len(kinds) == 1 and kinds[0] in WAITING_KINDS:
        yield from waiting_faults(path, kinds[0], step, tree)


def _is_told_of(step: dict[str, Any]) -> bool:
    """A key of it is told of already, as another name of a kind or as one that may not stand there."""
    return any(key in WAITING_KINDS or STEP_WORDS.get(key) in STEP_KINDS for key in step)


def _run_faults(path: Path, step: dict[str, Any], tree: Any) -> Iterator[Placed]:
    given = step.get("with", step.get("parameters"))
    for key in ("command", "shell"):
        if isinstance(given, dict) and key in given:
            place = (*path, "with" if "with" in step else "parameters", key)
            yield (
                place,
                fault(place, tree, f"`run` already says the {key}", code="twice", advice="take one away"),
            )
    command = step["run"]
    if isinstance(command, str) and not command.strip() and command:
        yield (*path, "run"), fault((*path, "run"), tree, "the command is empty", code="wrong_value")


def _call_faults(path: Path, step: dict[str, Any], tree: Any) -> Iterator[Placed]:
    call = step.get("call")
    if not isinstance(call, str) or split_call(call) is not None:
        return
    place = (*path, "call")
    module, dot, function = call.rpartition(".")
    if dot and module and function and function != "py" and " " not in call:
        close = f"{module}:{function}"
        near = nearest(call.partition(".")[0], BUILT_IN_MODULES)
        if near is not None and call.count(".") == 1 and len(call.partition(".")[0]) > 3:
            close = call.replace(call.partition(".")[0], near, 1)
        advice = None
    else:
        close = None
        advice = f"write the function behind a colon: `call: {call.strip(':') or './steps.py'}:FUNCTION`"
    message = f"call is a function like mypkg.io:list_files; got {describe(call)}"
    yield place, fault(place, tree, message, code="wrong_value", nearest=close, advice=advice)


def _shared_faults(path: Path, holder: dict[str, Any], tree: Any) -> list[Placed]:
    """Faults of keys that `defaults` may have as well as a step."""
    faults = spelling_faults(path, holder, tree)
    if "timeout" in holder or "sleep" in holder:
        faults += duration_faults(path, holder, tree)
    retry = holder.get("retry")
    if isinstance(retry, dict):
        faults += spelling_faults((*path, "retry"), retry, tree)
        faults += duration_faults((*path, "retry"), retry, tree)
    resources = holder.get("resources")
    if isinstance(resources, dict):
        faults += resource_faults((*path, "resources"), resources, tree)
    return faults
