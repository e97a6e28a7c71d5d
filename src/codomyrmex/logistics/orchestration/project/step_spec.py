"""What the steps of a workflow share: how an attempt of them is to be run.

Layer: pure. A `StepSpec` holds everything of a step but its name, its place in the graph and its
parameters, so that the thousands of steps of a wide workflow share a few specs (`SpecTable`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from codomyrmex.logistics.orchestration.project.references import (
    Template,
    compile_environment,
    compile_template,
)
from codomyrmex.logistics.orchestration.project.resource_request import Request
from codomyrmex.logistics.orchestration.project.states import (
    Isolation,
    ItemFailure,
    StepKind,
    TaskPriority,
    TriggerRule,
)
from codomyrmex.logistics.orchestration.project.step_resources import request_of
from codomyrmex.logistics.task.retry import RetryPolicy

OWN_KEYS = frozenset(
    {"name", "description", "parameters", "dependencies", "run_if", "foreach", "compensate", "cache"}
)
"""The keys of a step that are its own and not part of its spec."""

NO_RETRY = RetryPolicy()
ONE_CPU = Request()
NOTHING = Request(cpu_milli=0)
ENGINE_MODULES = frozenset({"files"})
"""Built-in actions that do not block for long and run in a thread of the engine."""
WORKER_MODULES = frozenset({"shell", "python", "http"})
"""Built-in actions that run under a worker, so that they can be ended with all they started."""
HANDLER_TIMEOUT_S = 600.0
"""What a compensation or a handler may take that names no timeout, where it can be ended."""
_KINDS = {kind.value: kind for kind in StepKind}


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSpec:
    """How an attempt is run; equal specs are one object within a workflow."""

    module: str
    action: str
    isolation: Isolation
    kind: StepKind = StepKind.ACTION
    isolation_given: bool = False
    priority: TaskPriority = TaskPriority.NORMAL
    trigger_rule: TriggerRule = TriggerRule.ALL_SUCCESS
    required: bool = True
    on_item_failure: ItemFailure = ItemFailure.FAIL
    retry: RetryPolicy = NO_RETRY
    timeout_s: float | None = None
    max_parallel: int | None = None
    request: Request = ONE_CPU
    effects: str | None = None
    env: Template | None = None
    working_dir: Template | None = None
    python: str | None = None

    @property
    def cpu_milli(self) -> int:
        """Thousandths of a CPU that an attempt claims."""
        return self.request.cpu_milli

    @property
    def memory_bytes(self) -> int:
        """The memory that an attempt claims and is held to; 0 where nothing is said."""
        return self.request.memory_bytes


class SpecTable:
    """Makes specs from step mappings and keeps one of each content."""

    def __init__(self, defaults: Mapping[str, Any]) -> None:
        self.specs: list[StepSpec] = []
        self._defaults = defaults
        self._isolation = Isolation(defaults.get("isolation", "process"))
        self._numbers: dict[object, int] = {}
        self._requests: dict[Request, Request] = {}

    def number_of(
        self, step: Mapping[str, Any], function: Callable[..., Any] | None, *, handler: bool = False
    ) -> int:
        """The number in `specs` of the spec of `step`; a new one when its content is new.

        A `handler` (compensations too) that can be ended gets a default timeout.
        """
        coroutine = (
            function is not None and bool(function.__code__.co_flags & 0x80) if _plain(function) else False
        )
        rest = {key: value for key, value in step.items() if key not in OWN_KEYS}
        plain = len(rest) == 2 and function is None and "action" in rest and not handler
        key = (
            (rest["module"], rest["action"])  # it has only these
            if plain
            else (msgspec.json.encode(rest), function is None, coroutine, handler)
        )
        number = self._numbers.get(key)
        if number is None:
            spec = self._make(rest, coroutine=coroutine)
            if handler and spec.timeout_s is None and spec.isolation is Isolation.PROCESS:
                spec = replace(spec, timeout_s=HANDLER_TIMEOUT_S)
            number = self._numbers[key] = len(self.specs)
            self.specs.append(spec)
        return number

    def _make(self, step: Mapping[str, Any], *, coroutine: bool) -> StepSpec:
        kind = kind_of(step)
        if kind is not StepKind.ACTION:
            return self._make_waiting(step, kind)
        env = {**self._defaults.get("env", {}), **step.get("env", {})}
        working_dir = step.get("working_dir", self._defaults.get("working_dir"))
        return StepSpec(
            module=step["module"],
            action=step["action"],
            isolation=self._isolation_of(step, coroutine=coroutine),
            isolation_given="isolation" in step,
            priority=TaskPriority(step.get("priority", "normal")),
            trigger_rule=TriggerRule(step.get("trigger_rule", "all_success")),
            required=step.get("required", True),
            on_item_failure=ItemFailure(step.get("on_item_failure", "fail")),
            retry=_retry(step),
            timeout_s=step.get("timeout_s"),
            max_parallel=step.get("max_parallel"),
            request=self._request(step.get("resources")),
            effects=step.get("effects"),
            env=compile_environment(env) if env else None,
            working_dir=compile_template(working_dir) if working_dir else None,
            python=step.get("python", self._defaults.get("python")),
        )

    def _make_waiting(self, step: Mapping[str, Any], kind: StepKind) -> StepSpec:
        """The spec of a step that holds no slot; it stands in no queue, so most of a spec means nothing to it."""
        return StepSpec(
            kind=kind,
            module=kind.value,
            action=step["workflow"] if kind is StepKind.WORKFLOW else "",
            isolation=Isolation.THREAD,
            trigger_rule=TriggerRule(step.get("trigger_rule", "all_success")),
            required=step.get("required", True),
            on_item_failure=ItemFailure(step.get("on_item_failure", "fail")),
            retry=_retry(step),
            timeout_s=step.get("timeout_s"),
            max_parallel=step.get("max_parallel"),
            request=NOTHING,
        )

    def _request(self, resources: Mapping[str, int] | None) -> Request:
        """Equal requests are one object: they are compared wherever attempts queue."""
        if not resources:
            return ONE_CPU
        request = request_of(resources)
        return self._requests.setdefault(request, request)

    def _isolation_of(self, step: Mapping[str, Any], *, coroutine: bool) -> Isolation:
        if step["module"] in WORKER_MODULES:
            return Isolation.PROCESS
        if "isolation" in step:
            return Isolation(step["isolation"])
        if step["module"] in ENGINE_MODULES:
            return Isolation.THREAD
        resources = step.get("resources", {})
        if step.get("timeout_s") is not None or resources.get("memory") or resources.get("gpu"):
            return Isolation.PROCESS  # only a process can be ended in time, be measured, see its own devices
        if coroutine:
            return Isolation.ASYNC
        return self._isolation


def kind_of(step: Mapping[str, Any]) -> StepKind:
    """What a step of a document is: the key that it has in place of module and action tells."""
    if "module" in step:
        return StepKind.ACTION
    return next(_KINDS[key] for key in step if key in _KINDS)


def _retry(step: Mapping[str, Any]) -> RetryPolicy:
    given = step.get("retry")
    if not given:
        return NO_RETRY
    policy: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in given.items()
    }
    return RetryPolicy(**policy)


def _plain(function: Callable[..., Any] | None) -> bool:
    return function is not None and hasattr(function, "__code__")
