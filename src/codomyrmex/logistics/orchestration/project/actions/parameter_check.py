"""Holding the parameters of many steps against the descriptions of their actions.

Layer: actions; pure. What is to be known of an action is worked out once (`ParameterCheck`), so that a step
without fault costs about a microsecond: two set comparisons and one look at each constant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from codomyrmex.exceptions import Fault
from codomyrmex.logistics.orchestration.project.actions import built_in
from codomyrmex.logistics.orchestration.project.actions.annotations import Judge, read_judge
from codomyrmex.logistics.orchestration.project.actions.description import (
    ActionDescription,
    Origin,
    ParameterDescription,
)
from codomyrmex.logistics.orchestration.project.actions.named_types import Lookup
from codomyrmex.logistics.orchestration.project.workflow_faults import nearest
from codomyrmex.logistics.orchestration.project.workflow_parameters import describe

Path = tuple[str | int, ...]
Found = tuple[Path, Fault]
_NOTHING: Mapping[str, Any] = {}


class ParameterCheck:
    """What the parameters of one action may be."""

    __slots__ = ("_any", "_by_name", "_extra", "_judges", "_names", "_required", "_seen", "described")

    def __init__(self, described: ActionDescription) -> None:
        self.described = described
        self._any = described.accepts_any or not described.is_known
        self._by_name = {each.name: each for each in described.parameters}
        self._names = {each.name for each in described.parameters if not each.positional_only}
        self._required = {each.name for each in described.parameters if each.required}
        self._extra = built_in.parameter_faults if described.origin is Origin.BUILT_IN else None
        judges = ((each.name, _judge(each, described.lookup)) for each in described.parameters)
        self._judges = {name: judge for name, judge in judges if judge is not None}
        self._seen: Mapping[str, Any] | None = None

    def faults(self, step: Mapping[str, Any], place: Path) -> list[Found]:
        """Everything wrong with the parameters of the step that stands at `place`."""
        given: Mapping[str, Any] = step.get("parameters", _NOTHING)
        if given is self._seen:
            return []  # the very mapping of the last step, and nothing was wrong with it
        keys = given.keys()
        found: list[Found] = []
        if not (self._required <= keys and (self._any or keys <= self._names)):
            found.extend(self._names_wrong(given, (*place, "parameters")))
        judges = self._judges
        for name, value in given.items():
            judge = judges.get(name)
            if judge is not None and not judge.accepts(value):
                found.extend(self._value_wrong(judge, value, (*place, "parameters", name)))
        if self._extra is not None and not found:
            found.extend(self._of_built_in(given, (*place, "parameters"), self._extra))
        if not found:
            self._seen = given
        return found

    def _names_wrong(self, given: Mapping[str, Any], place: Path) -> Iterator[Found]:
        missing = [name for name in self._by_name if name in self._required and name not in given]
        strange = [name for name in given if not self._any and name not in self._names]
        for name in missing:
            yield place, self._missing(name, strange)
        for name in strange:
            known = self._by_name.get(name)
            by_position = known is not None and known.positional_only
            found = self._by_position(name) if by_position else self._strange(name, given)
            yield (*place, name), found

    def _missing(self, name: str, strange: list[str]) -> Fault:
        described = self.described
        if self._by_name[name].positional_only:
            return self._by_position(name)
        if name == "self" and "." in described.action:
            return Fault(
                message=f"{described.name} is a method of an object, and an action has none",
                code="missing_parameter",
                advice="make it a @staticmethod, or a function of the module",
            )
        advice = f"write `{name}: ...` under `with:`"
        if len(strange) == 1:
            advice = f"is it what stands under {strange[0]!r}?"
        kind = _kind_text(self._by_name[name])
        text = f"{described.name} needs the parameter {name!r}{kind}, which is missing"
        return Fault(message=text, code="missing_parameter", advice=advice)

    def _by_position(self, name: str) -> Fault:
        return Fault(
            message=f"{self.described.name} takes {name!r} by position only, and actions are called by name",
            code="by_position",
            advice="call it from a function of your own that takes it by name",
        )

    def _strange(self, name: str, given: Mapping[str, Any]) -> Fault:
        free = [each for each in self._names if each not in given]
        close = nearest(name, sorted(free))
        if not self._names:
            text = f"{self.described.name} takes no parameters"
            return Fault(message=text, code="unknown_parameter", got=name)
        ordered = tuple(each for each in self._by_name if each in self._names)
        text = f"{self.described.name} has no parameter {name!r}"
        return Fault(message=text, code="unknown_parameter", got=name, nearest=close, allowed=ordered)

    def _value_wrong(self, judge: Judge, value: Any, place: Path) -> Iterator[Found]:
        for inside, wrong, wanted, choices in judge.faults(value):
            name = str(place[-1]) + "".join(f"[{part!r}]" for part in inside)
            advice = None
            close = nearest(str(wrong), choices) if choices else None
            if isinstance(wrong, int | float) and wanted == "str":
                advice = "put it in quotes"
            yield (
                (*place, *inside),
                Fault(
                    message=f"{self.described.name} takes {wanted} for {name!r}; got {describe(wrong)}",
                    code="wrong_type",
                    got=describe(wrong),
                    nearest=close,
                    advice=advice,
                ),
            )

    def _of_built_in(
        self,
        given: Mapping[str, Any],
        place: Path,
        faults: Callable[[str, Mapping[str, Any]], Iterator[tuple[str, str, str]]],
    ) -> Iterator[Found]:
        for name, message, advice in faults(self.described.module, given):
            where = (*place, name) if name in given else place
            text = f"{self.described.name}: {message}"
            yield where, Fault(message=text, code="wrong_value", advice=advice)


def _judge(parameter: ParameterDescription, lookup: Lookup) -> Judge | None:
    text = parameter.hint or parameter.annotation
    return read_judge(text, or_none=parameter.default == "None", lookup=lookup)


def _kind_text(parameter: ParameterDescription) -> str:
    return f" ({parameter.annotation})" if parameter.annotation and len(parameter.annotation) <= 60 else ""
