"""From a canonical document to a `CompiledWorkflow`, or to every fault that only shows then.

Layer: pure. Steps are read one by one (templates, conditions, kinds), then the graph is built from named
dependencies and from references. A reference makes an edge within its phase only: when a later phase begins,
everything before it has ended. A reference to a later phase is a fault, because nothing is there yet.
"""

from __future__ import annotations

import difflib
import hashlib
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from codomyrmex.exceptions import Fault
from codomyrmex.logistics.orchestration.project.compiled_workflow import (
    CompiledWorkflow,
    CompileFaults,
    Path,
    encode_document,
)
from codomyrmex.logistics.orchestration.project.expressions import (
    Condition,
    ExpressionError,
    Reference,
    compile_condition,
)
from codomyrmex.logistics.orchestration.project.references import Template, compile_template
from codomyrmex.logistics.orchestration.project.shell_text import shell_variables
from codomyrmex.logistics.orchestration.project.states import (
    ConcurrencyPolicy,
    Isolation,
    RunPhase,
    StepKind,
    TriggerRule,
)
from codomyrmex.logistics.orchestration.project.step_cache_spec import StepCache, cache_fault
from codomyrmex.logistics.orchestration.project.step_spec import SpecTable, kind_of
from codomyrmex.logistics.orchestration.project.waiting_spec import WaitingSpec, text_of, waiting_spec
from codomyrmex.logistics.orchestration.project.workflow_dag import Graph
from codomyrmex.logistics.orchestration.project.workflow_kinds import compensation_name

NO_SECRET_IN = {
    "outputs": "outputs are stored and shown",
    "labels": "labels are stored and shown",
    "concurrency": "the key is stored and shown",
    "cache": "what a cache keeps is stored and shown",
    "working_dir": "a folder is stored and shown",
    "approval": "the question is stored and shown",
    "wait_for": "the name of a signal is stored and shown",
    "sleep": "a time is stored and shown",
    "foreach": "the items are stored and shown",
}
"""Why no secret may stand under these keys."""
Steps = Sequence[Mapping[str, Any]]
Functions = Mapping[str, Callable[..., Any]]


def compile_workflow(document: Mapping[str, Any], *, functions: Functions | None = None) -> CompiledWorkflow:
    """`document` made ready to run; raises `CompileFaults` with everything that is wrong.

    `functions` are the callables of steps made in Python, by step name.
    """
    compiler = _Compiler(document, functions or {})
    compiler.read_steps()
    graph = compiler.build_graph()
    outputs = compiler.read_outputs()
    concurrency, labels = compiler.read_heads()
    if compiler.faults:
        raise CompileFaults(compiler.faults)
    digest = hashlib.sha256(encode_document(document)).hexdigest()
    return CompiledWorkflow(
        name=document["name"],
        hash=digest,
        document={
            key: value for key, value in document.items() if key not in ("steps", "on_failure", "finally")
        },
        names=compiler.names,
        index=compiler.index,
        graph=graph,
        specs=compiler.specs.specs,
        spec_of=compiler.spec_of,
        templates=compiler.templates,
        conditions=compiler.conditions,
        fan_outs=compiler.fan_outs,
        outputs=outputs,
        referenced=compiler.referenced,
        functions=functions or {},
        max_parallel=document.get("max_parallel"),
        fail_fast=document.get("fail_fast", False),
        has_rules=any(spec.trigger_rule is not TriggerRule.ALL_SUCCESS for spec in compiler.specs.specs),
        phase_ends=compiler.phase_ends,
        compensations=compiler.compensations,
        undoes={undoing: step for step, undoing in compiler.compensations.items()},
        waiting=compiler.waiting,
        grids=frozenset(
            step for step in compiler.fan_outs if isinstance(compiler.steps[step].get("foreach"), Mapping)
        ),
        caches=compiler.caches,
        secrets=compiler.secrets,
        timeout_s=document.get("timeout_s"),
        concurrency=concurrency,
        policy=ConcurrencyPolicy(document.get("concurrency", {}).get("policy", "queue")),
        labels=labels,
    )


class _Compiler:
    """The columns while they grow, and the faults found on the way."""

    def __init__(self, document: Mapping[str, Any], functions: Functions) -> None:
        self.document = document
        self.functions = functions
        self.compensations: dict[int, int] = {}
        self.steps, self.phase_ends = self._all_steps()
        self.names = [step["name"] for step in self.steps]
        self.index = {name: number for number, name in enumerate(self.names)}
        self.specs = SpecTable(document)
        self.spec_of: array[int] = array("I")
        self.templates: list[Template | None] = []
        self.conditions: dict[int, Condition] = {}
        self.fan_outs: dict[int, Template] = {}
        self.waiting: dict[int, WaitingSpec] = {}
        self.caches: dict[int, StepCache] = {}
        self.secrets: dict[int, frozenset[str]] = {}
        self.referenced = bytearray(len(self.names))
        self.parents: list[Sequence[int]] = []
        self.faults: list[tuple[Path, Fault]] = []
        self._compiled: dict[str, Condition] = {}
        self._undoes = {undoing: step for step, undoing in self.compensations.items()}

    def _all_steps(self) -> tuple[Steps, tuple[int, int, int, int]]:
        """The steps of all phases, and where each phase ends."""
        main: Steps = self.document.get("steps", ())
        undoing: list[Mapping[str, Any]] = []
        for number, step in enumerate(main):
            if "compensate" in step:
                self.compensations[number] = len(main) + len(undoing)
                undoing.append({**step["compensate"], "name": compensation_name(step["name"])})
        failed: Steps = self.document.get("on_failure", ())
        last: Steps = self.document.get("finally", ())
        if not undoing and not failed and not last:
            return main, (len(main),) * 4
        ends = (
            len(main),
            len(main) + len(undoing),
            len(main) + len(undoing) + len(failed),
            len(main) + len(undoing) + len(failed) + len(last),
        )
        return [*main, *undoing, *failed, *last], ends

    def _phase_of(self, number: int) -> int:
        return next(rank for rank, end in enumerate(self.phase_ends) if number < end)

    def place_of(self, number: int) -> Path:
        """Where a step stands in the document."""
        if number < self.phase_ends[0]:
            return ("steps", number)
        if number < self.phase_ends[1]:
            return ("steps", self._undoes[number], "compensate")
        if number < self.phase_ends[2]:
            return ("on_failure", number - self.phase_ends[1])
        return ("finally", number - self.phase_ends[2])

    def read_steps(self) -> None:
        if len(self.index) != len(self.names):
            self._duplicates()
        for number, step in enumerate(self.steps):
            self._read_step(number, step)

    def _read_step(self, number: int, step: Mapping[str, Any]) -> None:
        function = self.functions.get(step["name"]) if self.functions else None
        handler = number >= self.phase_ends[0]
        place: Path = ("steps", number) if not handler else self.place_of(number)
        try:
            self.spec_of.append(self.specs.number_of(step, function, handler=handler))
        except ExpressionError as error:
            self.spec_of.append(0)
            self._expression((*place, _faulty_key(step)), error)
            self.templates.append(None)
            self.parents.append(())
            return
        needed = [
            self._dependency(number, name, (*place, "dependencies")) for name in step.get("dependencies", ())
        ]
        self.templates.append(self._parameters(step, place, undoes=number in self._undoes))
        self._control(number, step, place)
        self._check_isolation(step, function, place)
        for path, reference in self._references(number, place):
            if reference.root == "steps":
                needed.append(self._referenced_step(number, reference, path))
            else:
                self._check_root(number, reference, path)
        known = [parent for parent in needed if parent >= 0]
        self.parents.append(tuple(dict.fromkeys(known)) if len(known) > 1 else tuple(known))

    def _parameters(self, step: Mapping[str, Any], place: Path, *, undoes: bool) -> Template | None:
        parameters = step.get("parameters")
        if not parameters:
            return None
        path = (*place, "parameters")
        if step.get("module") == "shell" and isinstance(parameters.get("command"), str):
            try:
                text, variables = shell_variables(parameters["command"], undoes=undoes)
            except ExpressionError as error:
                self._expression((*path, "command"), error)
                return None
            parameters = {**parameters, "command": text}
            if variables:
                parameters["env"] = {**parameters.get("env", {}), **variables}
        return self._template(parameters, path)

    def _template(self, tree: Any, path: Path) -> Template | None:
        errors: list[ExpressionError] = []
        try:
            template = compile_template(tree, faults=errors)
        except ExpressionError as only:
            errors.append(only)
            template = None
        for error in errors:
            self._expression((*path, *error.path), error)
        return template

    def _control(self, number: int, step: Mapping[str, Any], place: Path) -> None:
        """What decides whether, how often and on what a step waits."""
        condition = step.get("run_if")
        if condition is not None:
            try:
                self.conditions[number] = self._condition(condition)
            except ExpressionError as error:
                self._expression((*place, "run_if"), error)
        over = step.get("foreach")
        if over is not None:
            self.fan_outs[number] = self._template(over, (*place, "foreach")) or compile_template([])
        elif self._undoes and (undone := self._undoes.get(number)) in self.fan_outs:
            self.fan_outs[number] = self.fan_outs[undone]
        kind = kind_of(step)
        if kind is not StepKind.ACTION:
            key, text = text_of(step, kind)
            template = None if text is None else self._template(text, (*place, key))
            self.waiting[number] = waiting_spec(step, kind, template)
        if "cache" in step:
            try:
                self.caches[number] = StepCache.of(step["cache"])
                if (fault := cache_fault(step)) is not None:
                    self.faults.append(((*place, "cache"), fault))
            except ExpressionError as error:
                self._expression((*place, "cache", *error.path), error)

    def _check_isolation(
        self, step: Mapping[str, Any], function: Callable[..., Any] | None, place: Path
    ) -> None:
        """A thread cannot be ended in time, and a closure cannot be sent to a process."""
        spec = self.specs.specs[self.spec_of[-1]]
        if spec.kind is not StepKind.ACTION:
            return
        if spec.isolation is not Isolation.PROCESS:
            for key, needs_process, what in (
                ("timeout_s", spec.timeout_s is not None, "a timeout"),
                ("resources", spec.request.memory_bytes, "a memory limit"),
                ("resources", spec.request.gpu, "a GPU of its own"),
            ):
                if needs_process:
                    message = f"{what} cannot be kept in isolation {spec.isolation.value!r}"
                    advice = "use isolation: process, or take it out"
                    self._fault((*place, key), message, code="isolation", advice=advice)
        lost = "<" in spec.action or spec.module == "__main__"
        if spec.isolation is Isolation.PROCESS and function is not None and lost:
            message = f"{spec.action!r} is a closure, a lambda or of a notebook cell, which no other process can find"
            self._fault(place, message, code="isolation", advice="move it to the top level of a module")

    def _condition(self, text: str) -> Condition:
        found = self._compiled.get(text)
        if found is None:
            found = self._compiled[text] = compile_condition(text)
        return found

    def _references(self, number: int, place: Path) -> Iterator[tuple[Path, Reference]]:
        spec = self.specs.specs[self.spec_of[number]]
        waits = self.waiting.get(number)
        cache = self.caches.get(number)
        undoes = number in self._undoes
        found: list[tuple[str, Template | Condition | None]] = [
            ("parameters", self.templates[number]),
            ("run_if", self.conditions.get(number)),
            ("foreach", None if undoes else self.fan_outs.get(number)),
            ("env", spec.env),
            ("working_dir", spec.working_dir),
            (waits.kind.value if waits else "", waits.text if waits else None),
        ]
        if cache is not None:
            found += [("cache", each) for each in (cache.inputs, cache.outputs, cache.key, cache.also)]
        for key, holder in found:
            if holder is not None:
                for reference in holder.references:
                    yield (*place, key), reference

    def _dependency(self, number: int, name: str, path: Path) -> int:
        """The number of a step that another names as its dependency: one of its own phase."""
        parent = self._step_number(name, path)
        if parent >= 0 and self._phase_of(parent) != self._phase_of(number):
            section = self.place_of(number)[0]
            self._fault(
                path, f"{name!r} is not a step of `{section}`", code="wrong_phase", got=name,
                advice="handlers wait for each other only: all of main has ended when they begin",
            )  # fmt: skip
            return -1
        return parent

    def _referenced_step(self, number: int, reference: Reference, path: Path) -> int:
        """The step that a reference makes a parent, or -1 where it makes none."""
        parent = self._step_number(reference.step or "", path, text=reference.text)
        if parent < 0:
            return -1
        if reference.field != "status":
            self.referenced[parent] = 1
        if self.phase_ends[0] == len(self.names):
            return parent
        before, own = self._phase_of(parent), self._phase_of(number)
        if before > own:
            section = self.place_of(parent)[0]
            message = f"{reference.text} is not there yet: {reference.step!r} is of `{section}`"
            self._fault(path, message, code="wrong_phase")
        return parent if before == own and own != RunPhase.COMPENSATING.rank else -1

    def _step_number(self, name: str, path: Path, *, text: str | None = None) -> int:
        number = self.index.get(name)
        if number is not None:
            return number
        where = f" in {text}" if text else ""
        self._fault(path, f"unknown step {name!r}{where}", code="unknown_step", got=name, names=self.names)
        return -1

    def _check_root(self, number: int | None, reference: Reference, path: Path) -> None:
        """`number` is that of the step in which a reference stands, None for the head of the workflow."""
        fan_out = number is not None and number in self.fan_outs
        if reference.root == "parameters" and reference.path:
            name = str(reference.path[0])
            declared = self.document.get("parameters", {})
            if name not in declared:
                self._fault(
                    path, f"unknown parameter {name!r} in {reference.text}", code="unknown_parameter", got=name,
                    names=list(declared),
                )  # fmt: skip
        elif reference.root in ("item", "index") and (not fan_out or path[-1] in ("run_if", "foreach")):
            advice = (
                "add `foreach:` to this step"
                if not fan_out
                else "`run_if` and `foreach` are judged once, before there are items"
            )
            self._fault(path, f"{reference.text} means nothing here", code="no_item", advice=advice)
        elif reference.root == "output":
            undone = None if number is None else self._undoes.get(number)
            if undone is None:
                advice = "write steps.NAME.output; `output` alone is for `compensate`"
                self._fault(path, f"{reference.text} means nothing here", code="no_output", advice=advice)
            else:
                self.referenced[undone] = 1
        elif reference.root == "secrets":
            self._secret(number, reference, path)

    def _secret(self, number: int | None, reference: Reference, path: Path) -> None:
        """A secret goes to the worker of an action, and nowhere else: only there it is not stored."""
        key = str(path[-1])
        text = f"${{{reference.text}}}"
        advice = "pass it to an action: in `parameters`, in `env`, or in the text of a command"
        if number is None or key not in ("parameters", "env"):
            why = NO_SECRET_IN.get(key) or NO_SECRET_IN[str(path[0])]
        elif number in self.waiting:
            why = "the parameters of a child run are stored"
            advice = f"write {text} in that workflow, in the step that needs it"
        elif key == "parameters" and (argument := _as_argument(self.steps[number], reference)) is not None:
            path = (*path, argument)
            why = "everybody on the machine can see the arguments of a command"
            advice = f"hand it over in the environment, `env: {{NAME: {text}}}`, or in `stdin`"
        else:
            self.secrets[number] = self.secrets.get(number, frozenset()) | {str(reference.path[0])}
            return
        self._fault(path, f"{text} must not stand here: {why}", code="secret", advice=advice)

    def read_outputs(self) -> Template | None:
        outputs = self.document.get("outputs")
        if not outputs:
            return None
        template = self._template(outputs, ("outputs",))
        for reference in template.references if template is not None else ():
            if reference.root == "steps":
                parent = self._step_number(reference.step or "", ("outputs",), text=reference.text)
                if parent >= self.phase_ends[0]:
                    message = f"{reference.text} is not there yet: outputs are worked out when main has ended"
                    self._fault(("outputs",), message, code="wrong_phase")
                elif parent >= 0 and reference.field != "status":
                    self.referenced[parent] = 1
            else:
                self._check_root(None, reference, ("outputs",))
        return template

    def read_heads(self) -> tuple[Template | None, Template | None]:
        """The key of `concurrency` and the labels: worked out before anything has run."""
        found: list[Template | None] = []
        for place, tree in (
            ("concurrency", self.document.get("concurrency", {}).get("key")),
            ("labels", self.document.get("labels")),
        ):
            template = self._template(tree, (place,)) if tree else None
            found.append(template)
            for reference in template.references if template is not None else ():
                if reference.root in ("steps", "run"):
                    message = f"{reference.text} is not known when the run is submitted"
                    self._fault((place,), message, code="too_early", advice="use ${parameters.NAME}")
                else:
                    self._check_root(None, reference, (place,))
        return found[0], found[1]

    def build_graph(self) -> Graph:
        graph = Graph.build(self.names, self.parents)
        self.parents = []
        cycle = graph.find_cycle()
        if cycle:
            names = [self.names[number] for number in cycle]
            around = " -> ".join([*names, names[0]])
            advice = "an arrow means `runs before`; take one dependency or reference out"
            message = f"the steps form a cycle: {around}"
            self._fault(self.place_of(cycle[0]), message, code="cycle", advice=advice)
        return graph

    def _duplicates(self) -> None:
        seen: dict[str, int] = {}
        for number, name in enumerate(self.names):
            if name in seen:
                section, first = self.place_of(seen[name])[:2]
                message = f"step name {name!r} is taken already by {section}[{first}]"
                self._fault((*self.place_of(number), "name"), message, code="duplicate_name", got=name)
            seen.setdefault(name, number)

    def _expression(self, path: Path, error: ExpressionError) -> None:
        where = f" (column {error.column})" if error.column is not None else ""
        self._fault(path, error.message + where, code="expression", advice=error.advice)

    def _fault(
        self,
        path: Path,
        message: str,
        *,
        code: str,
        got: str | None = None,
        names: Sequence[str] = (),
        advice: str | None = None,
    ) -> None:
        near = difflib.get_close_matches(got, names[:5000], n=1, cutoff=0.6) if got else []
        self.faults.append(
            (
                path,
                Fault(message=message, code=code, got=got, nearest=near[0] if near else None, advice=advice),
            )
        )


def _faulty_key(step: Mapping[str, Any]) -> str:
    """Which part of how a step is run could not be read: its folder, or its environment."""
    try:
        compile_template(step.get("working_dir", ""))
    except ExpressionError:
        return "working_dir"
    return "env"


_ARGUMENTS = {"shell": ("command",), "python": ("script", "code", "args")}
"""The parameters of built-in actions that become arguments of a process."""


def _as_argument(step: Mapping[str, Any], secret: Reference) -> str | None:
    """The parameter in which a secret would become an argument of a process; a text for bash takes variables."""
    for key in _ARGUMENTS.get(step["module"], ()):
        value = step["parameters"].get(key)
        if (step["module"] != "shell" or isinstance(value, list)) and _holds(value, secret):
            return key
    return None


def _holds(tree: Any, secret: Reference) -> bool:
    return secret in compile_template(tree).references
