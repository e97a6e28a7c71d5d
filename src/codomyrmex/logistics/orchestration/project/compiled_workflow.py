"""A definition made ready to run: names, specs, graph and templates as columns.

Layer: pure. `compile_workflow` takes a document in its canonical long form (see `workflow_file`) and
either gives a `CompiledWorkflow` or every fault that only shows when steps are seen together: unknown
names in references and dependencies, cycles, expressions that do not parse. A step is a number; what a
run keeps per step stands in `run_state`. Equal specs are shared, constant parameters are kept as they
are, so a step of a large workflow costs its name and a few machine words.
"""

from __future__ import annotations

import difflib
import hashlib
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from codomyrmex.exceptions import Fault
from codomyrmex.logistics.orchestration.project.expressions import (
    Condition,
    ExpressionError,
    Reference,
    compile_condition,
)
from codomyrmex.logistics.orchestration.project.references import Template, compile_template
from codomyrmex.logistics.orchestration.project.shell_text import shell_variables
from codomyrmex.logistics.orchestration.project.states import Isolation, TriggerRule
from codomyrmex.logistics.orchestration.project.step_spec import SpecTable, StepSpec
from codomyrmex.logistics.orchestration.project.workflow_dag import Graph

Path = tuple[str | int, ...]


@dataclass(slots=True, kw_only=True)
class CompiledWorkflow:
    """A workflow as columns; step `i` has name `names[i]` and spec `specs[spec_of[i]]`."""

    name: str
    hash: str
    document: Mapping[str, Any]
    names: list[str]
    index: dict[str, int]
    graph: Graph
    specs: list[StepSpec]
    spec_of: array[int]
    templates: list[Template | None]
    conditions: dict[int, Condition]
    fan_outs: dict[int, Template]
    outputs: Template | None
    referenced: bytearray
    functions: Mapping[str, Callable[..., Any]]
    max_parallel: int | None
    fail_fast: bool
    has_rules: bool
    """True where a step has a trigger rule other than all_success."""

    def __len__(self) -> int:
        return len(self.names)

    def spec(self, step: int) -> StepSpec:
        """The spec of step number `step`."""
        return self.specs[self.spec_of[step]]


class CompileFaults(Exception):
    """What is wrong with a document, each with the path of its place (`("steps", 3, "run_if")`)."""

    def __init__(self, found: Sequence[tuple[Path, Fault]]) -> None:
        super().__init__(f"{len(found)} faults")
        self.found = tuple(found)


def encode_document(document: Mapping[str, Any]) -> bytes:
    """The canonical bytes of a document: what its hash is taken of and what the store keeps."""
    return msgspec.json.encode(document, order="deterministic")


def compile_workflow(
    document: Mapping[str, Any],
    *,
    functions: Mapping[str, Callable[..., Any]] | None = None,
) -> CompiledWorkflow:
    """`document` made ready to run; raises `CompileFaults` with everything that is wrong.

    `functions` are the callables of steps made in Python, by step name.
    """
    compiler = _Compiler(document, functions or {})
    compiler.read_steps()
    graph = compiler.build_graph()
    outputs = compiler.read_outputs()
    if compiler.faults:
        raise CompileFaults(compiler.faults)
    digest = hashlib.sha256(encode_document(document)).hexdigest()
    return CompiledWorkflow(
        name=document["name"],
        hash=digest,
        document={key: value for key, value in document.items() if key != "steps"},
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
    )


class _Compiler:
    """The columns while they grow, and the faults found on the way."""

    def __init__(self, document: Mapping[str, Any], functions: Mapping[str, Callable[..., Any]]) -> None:
        self.document = document
        self.steps: Sequence[Mapping[str, Any]] = document.get("steps", ())
        self.functions = functions
        self.names = [step["name"] for step in self.steps]
        self.index = {name: number for number, name in enumerate(self.names)}
        self.specs = SpecTable(document)
        self.spec_of: array[int] = array("I")
        self.templates: list[Template | None] = []
        self.conditions: dict[int, Condition] = {}
        self.fan_outs: dict[int, Template] = {}
        self.referenced = bytearray(len(self.names))
        self.parents: list[Sequence[int]] = []
        self.faults: list[tuple[Path, Fault]] = []
        self._compiled: dict[str, Condition] = {}

    def read_steps(self) -> None:
        if len(self.index) != len(self.names):
            self._duplicates()
        for number, step in enumerate(self.steps):
            self._read_step(number, step)

    def _read_step(self, number: int, step: Mapping[str, Any]) -> None:
        function = self.functions.get(step["name"]) if self.functions else None
        place: Path = ("steps", number)
        try:
            self.spec_of.append(self.specs.number_of(step, function))
        except ExpressionError as error:
            self.spec_of.append(0)
            self._expression((*place, "env"), error)
            self.templates.append(None)
            self.parents.append(())
            return
        needed = [self._step_number(name, (*place, "dependencies")) for name in step.get("dependencies", ())]
        self.templates.append(self._parameters(step, place))
        self._control(number, step, place)
        self._check_isolation(step, function, place)
        for path, reference in self._references(number, place):
            if reference.root == "steps":
                needed.append(self._referenced_step(reference, path))
            else:
                self._check_root(reference, path, fan_out="foreach" in step)
        known = [parent for parent in needed if parent >= 0]
        self.parents.append(tuple(dict.fromkeys(known)) if len(known) > 1 else tuple(known))

    def _parameters(self, step: Mapping[str, Any], place: Path) -> Template | None:
        parameters = step.get("parameters")
        if not parameters:
            return None
        path = (*place, "parameters")
        if step["module"] == "shell" and isinstance(parameters.get("command"), str):
            try:
                text, variables = shell_variables(parameters["command"])
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
        condition = step.get("run_if")
        if condition is not None:
            try:
                self.conditions[number] = self._condition(condition)
            except ExpressionError as error:
                self._expression((*place, "run_if"), error)
        over = step.get("foreach")
        if over is not None:
            self.fan_outs[number] = self._template(over, (*place, "foreach")) or compile_template([])

    def _check_isolation(
        self, step: Mapping[str, Any], function: Callable[..., Any] | None, place: Path
    ) -> None:
        """A thread cannot be ended in time, and a closure cannot be sent to a process."""
        spec = self.specs.specs[self.spec_of[-1]]
        for key in ("timeout_s", "resources"):
            limit = spec.timeout_s if key == "timeout_s" else spec.memory_bytes or None
            if spec.isolation is not Isolation.PROCESS and limit is not None:
                what = "a timeout" if key == "timeout_s" else "a memory limit"
                message = f"{what} cannot be kept in isolation {spec.isolation.value!r}"
                self._fault(
                    (*place, key), message, code="isolation", advice="use isolation: process, or take it out"
                )
        if spec.isolation is Isolation.PROCESS and function is not None and "<" in spec.action:
            message = f"{spec.action!r} is a closure or a lambda, which no other process can find"
            self._fault(place, message, code="isolation", advice="move it to the top level of a module")

    def _condition(self, text: str) -> Condition:
        found = self._compiled.get(text)
        if found is None:
            found = self._compiled[text] = compile_condition(text)
        return found

    def _references(self, number: int, place: Path) -> Iterator[tuple[Path, Reference]]:
        template = self.templates[number]
        if template is not None:
            for reference in template.references:
                yield (*place, "parameters"), reference
        for key, table in (("run_if", self.conditions), ("foreach", self.fan_outs)):
            found = table.get(number)
            if found is not None:
                for reference in found.references:
                    yield (*place, key), reference
        spec = self.specs.specs[self.spec_of[number]]
        for key, extra in (("env", spec.env), ("working_dir", spec.working_dir)):
            if extra is not None:
                for reference in extra.references:
                    yield (*place, key), reference

    def _referenced_step(self, reference: Reference, path: Path) -> int:
        number = self._step_number(reference.step or "", path, text=reference.text)
        if number >= 0 and reference.field != "status":
            self.referenced[number] = 1
        return number

    def _step_number(self, name: str, path: Path, *, text: str | None = None) -> int:
        number = self.index.get(name)
        if number is not None:
            return number
        where = f" in {text}" if text else ""
        self._fault(path, f"unknown step {name!r}{where}", code="unknown_step", got=name, names=self.names)
        return -1

    def _check_root(self, reference: Reference, path: Path, *, fan_out: bool) -> None:
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
        elif reference.root == "secrets":
            self._fault(
                path,
                "secrets are not supported by this version",
                code="unsupported",
                advice="use ${env.NAME}",
            )

    def read_outputs(self) -> Template | None:
        outputs = self.document.get("outputs")
        if not outputs:
            return None
        template = self._template(outputs, ("outputs",))
        for reference in template.references if template is not None else ():
            if reference.root == "steps":
                self._referenced_step(reference, ("outputs",))
            else:
                self._check_root(reference, ("outputs",), fan_out=False)
        return template

    def build_graph(self) -> Graph:
        graph = Graph.build(self.names, self.parents)
        self.parents = []
        cycle = graph.find_cycle()
        if cycle:
            names = [self.names[number] for number in cycle]
            around = " -> ".join([*names, names[0]])
            advice = "an arrow means `runs before`; take one dependency or reference out"
            self._fault(("steps", cycle[0]), f"the steps form a cycle: {around}", code="cycle", advice=advice)
        return graph

    def _duplicates(self) -> None:
        seen: dict[str, int] = {}
        for number, name in enumerate(self.names):
            if name in seen:
                message = f"step name {name!r} is taken already by steps[{seen[name]}]"
                self._fault(("steps", number, "name"), message, code="duplicate_name", got=name)
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
