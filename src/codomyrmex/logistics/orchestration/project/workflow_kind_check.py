"""Faults of steps that wait without a slot, and of the parts of a step that are mappings.

Layer: pure. What the schema cannot say, or only in a way nobody understands: which keys may not stand beside
which kind, answers that break the form they are for, grids whose values are no lists.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from codomyrmex.logistics.orchestration.project.workflow_amount_check import duration_faults, spelling_faults
from codomyrmex.logistics.orchestration.project.workflow_faults import Path, Placed, fault
from codomyrmex.logistics.orchestration.project.workflow_kinds import BESIDE_KIND
from codomyrmex.logistics.orchestration.project.workflow_parameters import describe

WITH_PARTS = frozenset({"foreach", "cache", "on_item_failure"})
"""The keys of a step that `part_faults` looks at."""


def waiting_faults(path: Path, kind: str, step: dict[str, Any], tree: Any) -> Iterator[Placed]:
    """Faults of a step of a kind that holds no slot; tolerant of every type."""
    for key in [each for each in step if each in BESIDE_KIND[kind]]:
        place = (*path, key)
        message = f"`{key}` means nothing beside `{kind}`, which {_WHY[kind]}"
        yield place, fault(place, tree, message, code="not_beside", advice=_advice(kind, key))
    value = step[kind]
    place = (*path, kind)
    if kind == "workflow":
        yield from _workflow_faults(place, value, tree)
    if not isinstance(value, dict):
        return
    yield from spelling_faults(place, value, tree)
    yield from duration_faults(place, value, tree)
    if kind == "approval":
        yield from _form_faults(place, value, tree)
    if "default" in value and not {"timeout", "timeout_s"}.intersection(value):
        message = "a default is what stands when the time is over, and there is no timeout"
        advice = f"add it: `{kind}: {{..., timeout: 2h}}`"
        yield (*place, "default"), fault((*place, "default"), tree, message, code="no_timeout", advice=advice)


_WHY: Mapping[str, str] = {
    "workflow": "runs as a run of its own",
    "approval": "waits for a person and holds no slot",
    "wait_for": "waits for a signal and holds no slot",
    "sleep": "waits and holds no slot",
}
_INSIDE: Mapping[str, str] = {"approval": "message: ...", "wait_for": "signal: ..."}


def _advice(kind: str, key: str) -> str:
    if key in ("timeout", "timeout_s"):
        if kind == "sleep":
            return "it ends by itself: take the timeout out"
        return f"write it inside: `{kind}: {{{_INSIDE[kind]}, timeout: 2h}}`"
    if key in ("with", "parameters"):
        inside = "the text of `sleep`" if kind == "sleep" else f"the texts of `{kind}`"
        return f"references are filled in in {inside}"
    if key in ("retry", "max_retries", "retry_count"):
        return "it is not tried again: take it out"
    if kind == "workflow":
        return f"write `{key}` in that workflow"
    return "take it out"


def _workflow_faults(place: Path, name: Any, tree: Any) -> Iterator[Placed]:
    if isinstance(name, str) and re.fullmatch(r"[A-Za-z_][\w.-]*\.(?:yaml|yml|json|toml)", name, re.ASCII):
        message = f"a file is named from this one's folder; got {describe(name)}"
        advice = f"write `workflow: ./{name}`, or the name that stands in the file"
        yield place, fault(place, tree, message, code="wrong_value", advice=advice)


def _form_faults(place: Path, approval: dict[str, Any], tree: Any) -> Iterator[Placed]:
    """A form that is no schema, and a default that is no answer to it."""
    form = approval.get("form")
    validator = None
    if isinstance(form, dict) and form:
        where = (*place, "form")
        outside = _outside_reference(form)
        if outside is not None:
            message = f"a form stands for itself: {outside!r} points out of it"
            advice = 'refer to its own `$defs`, like {$ref: "#/$defs/reason"}'
            yield where, fault(where, tree, message, code="wrong_value", advice=advice)
            return
        validator, problem = _validator(form)
        if problem is not None:
            message = f"the form is not a JSON Schema: {problem}"
            advice = "a form is like {type: object, properties: {reason: {type: string}}}"
            yield where, fault(where, tree, message, code="wrong_value", advice=advice)
            return
    if "default" not in approval or isinstance(approval["default"], bool):
        return
    where = (*place, "default")
    default = approval["default"]
    if validator is None:
        message = "the default of an approval without a form is true or false"
        advice = "or give the approval a `form`, which the default then fills in"
        yield where, fault(where, tree, message, value=default, code="wrong_value", advice=advice)
        return
    problem = next((str(each.message) for each in validator.iter_errors(default)), None)
    if problem is not None:
        yield where, fault(where, tree, f"the default breaks the form: {problem}", code="wrong_value")


def _outside_reference(form: Any) -> str | None:
    """A `$ref` to another document, which would have to be fetched."""
    if isinstance(form, dict):
        for key in ("$ref", "$dynamicRef", "$schema", "$id"):
            target = form.get(key)
            local = "https://json-schema.org/draft/2020-12/schema" if key == "$schema" else "#"
            if isinstance(target, str) and not target.startswith(local):
                return target
        return next((found for each in form.values() if (found := _outside_reference(each))), None)
    if isinstance(form, list):
        return next((found for each in form if (found := _outside_reference(each))), None)
    return None


def _validator(form: dict[str, Any]) -> tuple[Any, str | None]:
    import jsonschema_rs

    try:
        return jsonschema_rs.Draft202012Validator(form), None
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as problem:
        return None, str(getattr(problem, "message", problem)).splitlines()[0]


def part_faults(path: Path, step: dict[str, Any], tree: Any) -> list[Placed]:
    """Faults of a fan-out, of what it does with failed items, and of a cache."""
    faults: list[Placed] = []
    foreach = step.get("foreach")
    place = (*path, "foreach")
    if isinstance(foreach, str) and "${" not in foreach:
        message = "foreach is a reference to a list, or a list"
        advice = f'write [{foreach}], or a reference like "${{steps.files.output}}"'
        faults.append((place, fault(place, tree, message, value=foreach, code="wrong_value", advice=advice)))
    elif isinstance(foreach, dict):
        for name, choices in foreach.items():
            if name == "$type":
                message = "a grid cannot have the name '$type', which marks values that are not JSON"
                faults.append(((*place, name), fault((*place, name), tree, message, code="bad_name")))
            elif isinstance(choices, str) and "${" not in choices:
                where = (*place, name)
                message = "each name of a grid has a list of values, or a reference to one"
                advice = f"write {name}: [{choices}]"
                found = fault(where, tree, message, value=choices, code="wrong_value", advice=advice)
                faults.append((where, found))
    cache = step.get("cache")
    if isinstance(cache, dict):
        faults += spelling_faults((*path, "cache"), cache, tree)
        faults += duration_faults((*path, "cache"), cache, tree)
    if "on_item_failure" in step and foreach is None:
        where = (*path, "on_item_failure")
        message = "`on_item_failure` is for a fan-out, and this step has no `foreach`"
        advice = "a step that may fail says `required: false`"
        faults.append((where, fault(where, tree, message, code="not_beside", advice=advice)))
    return faults
