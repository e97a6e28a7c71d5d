"""What expressions of a run may read, and the items of a fan-out.

Layer: pure. `RunScope` fills the `Scope` port of `expressions` from a run, through the plan of a drain
where there is one. Only terminal steps are ever asked for, whose values no longer change, so a scope
without a plan may be read outside the drain's lock. Decoded outputs are kept while they are few: the
items of a fan-out read the same few values again and again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from codomyrmex.exceptions import StoreCorrupt
from codomyrmex.logistics.orchestration.project.expressions import EvaluationError, MissingValue
from codomyrmex.logistics.orchestration.project.run_state import COMPLETED, FAILED, RunState
from codomyrmex.logistics.orchestration.project.states import FIRST_TERMINAL_CODE, STATUSES, WorkflowStatus
from codomyrmex.logistics.orchestration.project.values import decode_tree


class Overlay(Protocol):
    """What a plan that lies over a run says instead of it."""

    errors: dict[int, dict[str, Any]]
    groups: dict[int, tuple[int, list[Any]]]
    outcome: WorkflowStatus | None
    result: tuple[str | None, str | None] | None

    def state_of(self, position: int) -> int:
        """The state code of a position."""

    def item_of(self, position: int) -> tuple[Any, int] | None:
        """Item and index of a position of a fan-out, None for a step."""

    def undone_by(self, position: int) -> int | None:
        """The position that a compensating one undoes, or None for all others."""

    def output_of(self, position: int) -> bytes | None:
        """The encoded output of a completed position."""


DECODED_KEPT = 64
"""How many decoded outputs a run keeps at a time."""


class RunScope:
    """One run, seen by the expressions of one of its tasks."""

    __slots__ = ("_plan", "_run", "_undone", "index", "item")

    def __init__(
        self,
        run: RunState,
        plan: Overlay | None = None,
        *,
        item: object = None,
        index: int | None = None,
        undone: int | None = None,
    ) -> None:
        self._run = run
        self._plan = plan
        self._undone = undone
        self.item = item
        self.index = index

    @property
    def output(self) -> object:
        """What the task that is being undone returned."""
        if self._undone is None:
            raise MissingValue("nothing is undone here")
        return self._output(self._undone)

    @property
    def parameters(self) -> Mapping[str, object]:
        return self._run.parameters

    @property
    def run(self) -> Mapping[str, object]:
        run = self._run
        shown = {
            "id": run.id,
            "workflow": run.workflow.name,
            "root": run.options.root,
            "file": run.options.file,
        }
        source = self._plan or run
        if source.outcome is not None:  # for handlers: what main became
            text = source.result[1] if source.result is not None else None
            error = decode_tree(text.encode()) if text else {}
            shown |= {"status": source.outcome.value, "error": error.get("message")}
            shown["failed_step"] = error.get("step")
        return shown

    @property
    def env(self) -> Mapping[str, str]:
        return self._run.options.environment

    def step(self, name: str, field: str) -> object:
        """The output, status, error or errors of a terminal step, or of one that was not needed."""
        run, plan = self._run, self._plan
        step = run.workflow.index[name]
        code = plan.state_of(step) if plan is not None else run.state[step]
        if field == "status":
            return STATUSES[code].value if code >= FIRST_TERMINAL_CODE else "skipped"
        if field == "errors":
            return self._group_errors(step)
        if field == "error":
            found = plan.errors.get(step) if plan is not None else None
            return found or run.errors.get(step)
        if code != COMPLETED:
            raise MissingValue(f"step {name!r} has no output: it is {STATUSES[code].value}")
        return self._group_output(step) if step in run.workflow.fan_outs else self._output(step)

    def _range_of(self, step: int) -> range:
        group = self._run.groups.get(step)
        if group is not None:
            return range(group.first, group.first + group.size)
        if self._plan is not None and step in self._plan.groups:
            first, items = self._plan.groups[step]
            return range(first, first + len(items))
        return range(0)

    def _code(self, position: int) -> int:
        return self._plan.state_of(position) if self._plan is not None else self._run.state[position]

    def _group_output(self, step: int) -> list[Any]:
        kept = self._run.decoded.get(step)
        if kept is None:
            kept = [self._item_output(position) for position in self._range_of(step)]
            self._keep(step, kept)
        return kept

    def _item_output(self, position: int) -> Any:
        return None if self._code(position) == FAILED else self._read(position)

    def _group_errors(self, step: int) -> dict[str, Any]:
        """The errors of failed items by their index, as text."""
        positions = self._range_of(step)
        found = {}
        for number, position in enumerate(positions):
            if self._code(position) == FAILED:
                error = self._plan.errors.get(position) if self._plan is not None else None
                found[str(number)] = error or self._run.errors.get(position)
        return found

    def _output(self, position: int) -> Any:
        kept = self._run.decoded.get(position)
        if kept is None:
            kept = self._read(position)
            self._keep(position, kept)
        return kept

    def _keep(self, position: int, value: Any) -> None:
        decoded = self._run.decoded
        if len(decoded) >= DECODED_KEPT:
            for oldest in list(decoded.copy())[
                : len(decoded) - DECODED_KEPT + 1
            ]:  # slots keep at the same time
                decoded.pop(oldest, None)
        decoded[position] = value

    def _read(self, position: int) -> Any:
        try:
            data = (self._plan or self._run).output_of(position)
        except StoreCorrupt as error:
            raise EvaluationError(f"the output of {self._run.name_of(position)!r}: {error}") from error
        if data is None:
            raise MissingValue(f"the output of {self._run.name_of(position)!r} is not in the store")
        return decode_tree(data)


def scope_of(run: RunState, position: int, plan: Overlay | None = None) -> RunScope:
    """What the expressions of one task may read."""
    source = plan or run
    undone = source.undone_by(position) if run.workflow.undoes else None
    found = source.item_of(position)
    if found is None:
        return RunScope(run, plan, undone=undone)
    return RunScope(run, plan, item=found[0], index=found[1], undone=undone)


def items_of_step(run: RunState, step: int, plan: Overlay | None = None) -> list[Any]:
    """The items of a fan-out step, worked out; raises `EvaluationError`."""
    value = run.workflow.fan_outs[step].resolve(RunScope(run, plan))
    return grid_items(value) if step in run.workflow.grids else fan_out_items(value)


def fan_out_items(value: Any) -> list[Any]:
    """The items that a resolved `foreach` stands for, in order; raises `EvaluationError` for what is no list."""
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        if value.get("$type") in ("tuple", "set", "frozenset"):
            return list(value["value"])
        if "$type" not in value:
            raise EvaluationError(
                "foreach wants a list, got a mapping; take ${keys(...)} or ${values(...)} of it"
            )
    raise EvaluationError(f"foreach wants a list, got {type(value).__name__}")


def grid_items(value: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The combinations of a grid (names to lists), in order; the last name varies fastest.

    Raises `EvaluationError` where one of them is no list.
    """
    combinations: list[dict[str, Any]] = [{}]
    for name, choices in value.items():
        try:
            found = fan_out_items(choices)
        except EvaluationError as error:
            raise EvaluationError(f"foreach: {name!r} of the grid: {error}") from error
        combinations = [{**before, name: choice} for before in combinations for choice in found]
    return combinations
