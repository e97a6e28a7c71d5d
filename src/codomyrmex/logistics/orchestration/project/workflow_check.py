"""Every fault of a workflow tree that shows without compiling it, and the way from a tree to its document.

Layer: pure. Two passes that both always run, so that all faults come at once: the schema, and what a schema
cannot say (one kind of step, no key in two spellings, no name twice, defaults of the declared type).
Expressions, references, unknown parents and cycles are the compiler's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from codomyrmex.exceptions import Fault, ValidationError
from codomyrmex.logistics.orchestration.project.amounts import (
    DURATION_PATTERN,
    MAX_DURATION_S,
    MAX_SIZE_BYTES,
    SIZE_PATTERN,
    read_duration_s,
    read_milli_cpu,
    read_size_bytes,
)
from codomyrmex.logistics.orchestration.project.workflow_document import (
    BUILT_IN_MODULES,
    Document,
    TaggedParameters,
    normalise,
    split_call,
)
from codomyrmex.logistics.orchestration.project.workflow_faults import (
    STEP_KINDS,
    Path,
    Placed,
    explain,
    fault,
    nearest,
)
from codomyrmex.logistics.orchestration.project.workflow_parameters import check_declaration, describe
from codomyrmex.logistics.orchestration.project.workflow_schema import MAX_STEPS, schema
from codomyrmex.logistics.orchestration.project.workflow_words import LATER_STEP_KINDS, STEP_WORDS

MAX_FAULTS = 100
"""So many faults are listed; of the rest only the number is told."""

# The same thing in two spellings: only one may stand.
_SPELLINGS = (
    ("needs", "dependencies"),
    ("with", "parameters"),
    ("timeout", "timeout_s"),
    ("retry", "max_retries"),
    ("delay", "delay_s"),
    ("max_delay", "max_delay_s"),
)


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
    bare = {**tree, "steps": [_without_values(step) for step in tree["steps"]]}
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
    if isinstance(bare.get("foreach"), (list, tuple)):
        bare["foreach"] = []
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
        if type(holder[key]) is TaggedParameters:
            holder[key] = dict(holder[key])
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
    for number, step in enumerate(document["steps"]):
        for key in ("parameters", "foreach"):
            if key in step and not isinstance(step[key], str):
                yield step, key, ("steps", number, key)
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
    try:
        if _validator(None).is_valid(tree):
            return [], 0
        return _explained_faults(tree)
    except ValueError:  # only from a workflow made in Python: the validator reads nothing but JSON
        return _foreign_faults(tree), 0


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

    steps = tree.get("steps")
    one_by_one = isinstance(steps, list) and 0 < len(steps) <= MAX_STEPS
    whole = {**tree, "steps": [_GOOD_STEP]} if one_by_one else tree
    if isinstance(steps, list) and len(steps) > MAX_STEPS:
        message = f"a workflow has at most {MAX_STEPS:,} steps, this one has {len(steps):,}"
        return [(("steps",), fault(("steps",), tree, message, code="too_many"))], 0
    collect(_validator(None), whole, ())
    validator = _validator("step")
    for number, step in enumerate(steps if one_by_one and steps else ()):
        if validator.is_valid(step):
            continue
        if len(faults) < MAX_FAULTS:
            collect(validator, step, ("steps", number))
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
    steps = tree.get("steps")
    if not isinstance(steps, list) or len(steps) > MAX_STEPS:
        return
    first_of: dict[str, int] = {}
    for number, step in enumerate(steps):
        if not isinstance(step, dict):
            continue
        name = step.get("name")
        if isinstance(name, str) and first_of.setdefault(name, number) != number:
            yield _doubled(number, name, first_of[name], tree)
        yield from _step_faults(("steps", number), step, tree)


def _doubled(number: int, name: str, first: int, tree: Any) -> Placed:
    path = ("steps", number, "name")
    message = f"the name {name!r} is taken by steps[{first}]"
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
    if "run" in step:
        return [
            *_kind_faults(path, step, tree),
            *_run_faults(path, step, tree),
            *_shared_faults(path, step, tree),
        ]
    if "call" in step or "module" not in step or "action" not in step:
        return [
            *_kind_faults(path, step, tree),
            *_call_faults(path, step, tree),
            *_shared_faults(path, step, tree),
        ]
    return _shared_faults(path, step, tree)


def _kind_faults(path: Path, step: dict[str, Any], tree: Any) -> Iterator[Placed]:
    kinds = [key for key in STEP_KINDS if key in step]
    if len(kinds) > 1 or (len(kinds) == 1 and kinds[0] != "module" and "action" in step):
        both = " and ".join(f"`{key}`" for key in (*kinds, "action")[: max(2, len(kinds))] if key in step)
        advice = "keep one, or make two steps of it"
        yield (
            path,
            fault(path, tree, f"a step does one thing, this one has {both}", code="two_kinds", advice=advice),
        )
    elif kinds == ["module"] and "action" not in step:
        advice = "write `action: NAME`, the function of the module to call"
        yield path, fault(path, tree, "`module` without `action`", code="missing_key", advice=advice)
    elif not kinds and "action" in step:
        advice = "write `module: NAME`, where the function is"
        yield path, fault(path, tree, "`action` without `module`", code="missing_key", advice=advice)
    elif not kinds and not _is_of_later_kind(step):
        message = "a step says what to do: `run`, `call`, or `module` and `action`; this one has none of them"
        advice = "for example `run: [make, test]` or `call: mypkg.io:list_files`"
        yield path, fault(path, tree, message, code="no_kind", advice=advice)


def _is_of_later_kind(step: dict[str, Any]) -> bool:
    """A key of it is told of as not supported, or as another name of `run` or `call`, which is enough."""
    return any(key in LATER_STEP_KINDS or STEP_WORDS.get(key) in STEP_KINDS for key in step)


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
    faults = _spelling_faults(path, holder, tree)
    if "timeout" in holder:
        faults += _duration_faults(path, holder, tree)
    retry = holder.get("retry")
    if isinstance(retry, dict):
        faults += _spelling_faults((*path, "retry"), retry, tree)
        faults += _duration_faults((*path, "retry"), retry, tree)
    resources = holder.get("resources")
    if isinstance(resources, dict):
        for name, read in _AMOUNTS:
            amount = resources.get(name)
            if isinstance(amount, (int, float, str)) and not isinstance(amount, bool):
                faults += _amount_fault((*path, "resources", name), amount, read, tree)
    foreach = holder.get("foreach")
    if isinstance(foreach, str) and "${" not in foreach:
        place = (*path, "foreach")
        message = "foreach is a reference to a list, or a list"
        advice = f'write [{foreach}], or a reference like "${{steps.files.output}}"'
        faults.append((place, fault(place, tree, message, value=foreach, code="wrong_value", advice=advice)))
    return faults


def _spelling_faults(path: Path, holder: dict[str, Any], tree: Any) -> list[Placed]:
    faults: list[Placed] = []
    for short, long in _SPELLINGS:
        if short in holder and long in holder:
            message = f"`{short}` and `{long}` say the same; keep one"
            faults.append(((*path, long), fault((*path, long), tree, message, code="twice")))
    return faults


def _amount_fault(path: Path, amount: float | str, read: Callable[[Any], int], tree: Any) -> list[Placed]:
    if isinstance(amount, str) == (path[-1] == "cpu") or (not isinstance(amount, str) and amount < 0):
        return []  # of the wrong type: the schema has said so
    message = "CPUs are shared in thousandths" if path[-1] == "cpu" else "this is not a whole number of bytes"
    try:
        if read(amount) <= MAX_SIZE_BYTES:
            return []
        message = "this is more than any machine has"
    except ValueError:
        if path[-1] == "memory" and not (
            isinstance(amount, str) and re.match(SIZE_PATTERN, amount, re.ASCII)
        ):
            return []
    return [(path, fault(path, tree, message, value=amount, code="wrong_value"))]


_AMOUNTS: tuple[tuple[str, Callable[[Any], int]], ...] = (
    ("cpu", read_milli_cpu),
    ("memory", read_size_bytes),
)


def _duration_faults(path: Path, holder: dict[str, Any], tree: Any) -> list[Placed]:
    """Texts that are durations, but of nothing or of more than ten years; numbers are the schema's."""
    faults: list[Placed] = []
    for key, least in (("timeout", 0.0), ("delay", -1.0), ("max_delay", -1.0)):
        text = holder.get(key)
        if not isinstance(text, str) or not text or re.match(DURATION_PATTERN, text, re.ASCII) is None:
            continue
        if not least < read_duration_s(text) <= MAX_DURATION_S:
            place = (*path, key)
            message = "a duration is above 0" if read_duration_s(text) <= 0 else "a duration is at most 3650d"
            advice = "to have no limit, leave it out"
            faults.append((place, fault(place, tree, message, value=text, code="wrong_value", advice=advice)))
    return faults
