"""Running a part of a workflow: which steps run, which results are used again, what is left out.

Layer: pure. Of the steps of `steps:`

    until S   S and everything that it needs            only S    S alone
    from S    S and everything that depends on it       from A, until B   what lies between them

*run*; what those need directly and what does not run is *reused* from an earlier run; the rest is no part of
the run's definition. Handlers stay: what they and nobody else refer to is reused where a result is there, and
else stands as a step that is skipped, so that their references mean what they mean after a failure.

A reused step keeps its name and its action and loses everything that would need other steps, its
`compensate` too: this run has not done its work, so it does not undo it.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from codomyrmex.exceptions import Fault, ValidationError
from codomyrmex.logistics.orchestration.project.compiled_workflow import CompiledWorkflow
from codomyrmex.logistics.orchestration.project.expressions import Reference
from codomyrmex.logistics.orchestration.project.references import compile_template

KEPT_KEYS = (
    "name",
    "description",
    "module",
    "action",
    "isolation",
    "required",
    "on_item_failure",
    "workflow",
)
"""What a reused or skipped step keeps of its definition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The part of a workflow that somebody wants to run; names of steps. Empty: all of it."""

    only: tuple[str, ...] = ()
    until: tuple[str, ...] = ()
    from_steps: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.only or self.until or self.from_steps)

    @property
    def steps(self) -> tuple[str, ...]:
        """Every name in it."""
        return (*self.only, *self.until, *self.from_steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Numbers of steps of `steps:`.

    `run`, `needed` (their results must be there) and `wanted` (may be there) do not overlap; `left_out` is what
    nobody refers to, and `mentioned` what only handlers do and what cannot be reused, because it comes later.
    """

    run: frozenset[int]
    needed: frozenset[int]
    wanted: frozenset[int]
    mentioned: frozenset[int]
    left_out: frozenset[int]


def select(workflow: CompiledWorkflow, part: Part) -> Selection:
    """What `part` means for a workflow; raises `ValidationError` for an unknown step or a strange mixture."""
    faults = [fault for name in part.steps if (fault := _unknown(workflow, name)) is not None]
    if part.only and (part.until or part.from_steps):
        faults.append(
            Fault(message="`only` stands alone", code="part", advice="leave out `until` and `from`")
        )
    if faults:
        raise ValidationError(faults, subject=f"workflow {workflow.name!r}")
    main = range(workflow.main_count)
    run = _running(workflow, part)
    if not run:
        fault = Fault(message="no step lies between these", code="part", advice="`from` comes before `until`")
        raise ValidationError([fault], subject=f"workflow {workflow.name!r}")
    needed = {parent for step in run for parent in workflow.graph.parents(step)}
    for step in run:
        undoing = workflow.compensations.get(step)
        needed |= set(_referenced(workflow, undoing)) if undoing is not None else set()
    needed -= run
    handlers = {
        found
        for step in range(workflow.phase_ends[1], len(workflow))
        for found in _referenced(workflow, step)
    }
    others = {step for step in handlers if step in main} - run - needed
    later = {child for step in run for child in workflow.graph.reach(step, upwards=False)}
    return Selection(
        run=frozenset(run),
        needed=frozenset(needed),
        wanted=frozenset(others - later),
        mentioned=frozenset(others & later),
        left_out=frozenset(main) - run - needed - others,
    )


def _running(workflow: CompiledWorkflow, part: Part) -> set[int]:
    def reach(names: Sequence[str], *, upwards: bool) -> set[int]:
        steps = {workflow.index[name] for name in names}
        return steps | {other for step in steps for other in workflow.graph.reach(step, upwards=upwards)}

    if part.only:
        return {workflow.index[name] for name in part.only}
    if not part.until:
        found = reach(part.from_steps, upwards=False)
    elif not part.from_steps:
        found = reach(part.until, upwards=True)
    else:
        found = reach(part.until, upwards=True) & reach(part.from_steps, upwards=False)
    return {step for step in found if step < workflow.main_count}


def _unknown(workflow: CompiledWorkflow, name: str) -> Fault | None:
    if workflow.index.get(name, workflow.main_count) < workflow.main_count:
        return None
    names = workflow.names[: workflow.main_count]
    near = difflib.get_close_matches(name, names[:5000], n=1, cutoff=0.6)
    shown = f"the steps are {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}"
    return Fault(
        message=f"there is no step {name!r} in `steps`",
        code="unknown_step",
        got=name,
        nearest=near[0] if near else None,
        advice=None if near else shown,
    )


def _referenced(workflow: CompiledWorkflow, step: int) -> Iterator[int]:
    """The steps of main that the expressions of a step of a later phase refer to."""
    for reference in references_of(workflow, step):
        if reference.root == "steps":
            number = workflow.index.get(reference.step or "", len(workflow))
            if number < workflow.main_count:
                yield number


def references_of(workflow: CompiledWorkflow, step: int) -> Iterator[Reference]:
    """Everything that the expressions of one step read."""
    spec, waits = workflow.spec(step), workflow.waiting.get(step)
    holders = [
        workflow.templates[step],
        workflow.conditions.get(step),
        workflow.fan_outs.get(step),
        spec.env,
        spec.working_dir,
        waits.text if waits is not None else None,
        workflow.caches.get(step),
    ]
    for holder in holders:
        if holder is not None:
            yield from holder.references


# -- the document ----------------------------------------------------------------------------------


def part_of(
    document: Mapping[str, Any],
    workflow: CompiledWorkflow,
    selection: Selection,
    *,
    reused: Collection[int],
    skipped: Collection[int],
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The definition of such a run, and the names of the workflow's outputs that it cannot have."""
    steps = []
    for number, step in enumerate(document["steps"]):
        if number in selection.run:
            steps.append(step)
        elif number in reused:
            steps.append(_reduced(step))
        elif number in skipped:
            steps.append({**_reduced(step), "run_if": "false"})
    there = {workflow.names[number] for number in (*selection.run, *reused)}
    outputs = {name: tree for name, tree in document.get("outputs", {}).items() if _steps_in(tree) <= there}
    lost = tuple(name for name in document.get("outputs", {}) if name not in outputs)
    found = {key: value for key, value in document.items() if key != "outputs"}
    return {**found, "steps": steps, **({"outputs": outputs} if outputs else {})}, lost


def _reduced(step: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: step[key] for key in KEPT_KEYS if key in step}
    if "approval" in step:
        found["approval"] = {"message": "answered in an earlier run"}
    elif "wait_for" in step:
        found["wait_for"] = {"signal": "of-an-earlier-run"}
    elif "sleep" in step:
        found["sleep"] = 0.0
    if "foreach" in step:
        found["foreach"] = []
    return found


def _steps_in(tree: Any) -> set[str]:
    return {each.step or "" for each in compile_template(tree).references if each.root == "steps"}
