"""Workflows of GitHub Actions read into ours: structure, needs, matrix, conditions, commands.

Layer: pure. Every job becomes the chains of its commands (`actions_job`), after the ends of the jobs it needs.
A job of which nothing can be run makes no step: what needs it waits for what it needed. Whatever is not in the
result stands in the report, with its line.
Source: https://docs.github.com/actions/reference/workflows-and-actions/workflow-syntax
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from codomyrmex.exceptions import Fault, ValidationError
from codomyrmex.logistics.orchestration.project.workflow_dag import Graph
from codomyrmex.logistics.orchestration.project.workflow_faults import Path, clean_name, nearest
from codomyrmex.logistics.orchestration.project.workflow_import.actions_job import (
    ADVICE,
    Facts,
    Job,
    job_steps,
)
from codomyrmex.logistics.orchestration.project.workflow_import.actions_syntax import text_of
from codomyrmex.logistics.orchestration.project.workflow_import.actions_text import (
    Context,
    JobEnd,
    NotCarried,
    Report,
)
from codomyrmex.logistics.orchestration.project.workflow_import.import_report import (
    Imported,
    StepNames,
    dotted,
    line_of,
    unreadable,
)
from codomyrmex.logistics.orchestration.project.workflow_text import UnreadableText
from codomyrmex.logistics.orchestration.project.workflow_yaml import read_yaml, yaml_lines

_TOP_KEYS = frozenset({"name", "on", "jobs", "env", "defaults"})
_INPUT_TYPES = {"boolean": "boolean", "number": "number"}


def read_github_actions(text: str, *, file: str | None = None, name: str | None = None) -> Imported:
    """The workflow of a file of GitHub Actions; `ValidationError` lists every fault with its line."""
    subject = file or "the workflow"
    try:
        parsed = read_yaml(text)
    except UnreadableText as error:
        raise unreadable(error.faults, file, subject) from None
    faults = [replace(each, file=file) for each in parsed.faults]
    tree = parsed.tree if isinstance(parsed.tree, dict) else {}
    report = Report(lines=yaml_lines(text) if not faults else {})
    jobs, found = _jobs(tree)
    for path, fault in found:
        faults.append(replace(fault, path=dotted(path), file=file, line=line_of(report.lines, path)))
    if faults:
        raise ValidationError(faults, subject=subject)
    return _imported(tree, jobs, report, name or _name(tree, file))


def _name(tree: Mapping[str, Any], file: str | None) -> str:
    stem = (file or "").replace("\\", "/").rpartition("/")[2].partition(".")[0]
    return clean_name(text_of(tree.get("name")).replace(" ", "-")) or clean_name(stem) or "imported"


def _jobs(tree: Mapping[str, Any]) -> tuple[list[Job], list[tuple[Path, Fault]]]:
    """The jobs, each behind those it needs, and what is wrong with them."""
    said = tree.get("jobs")
    if not isinstance(said, dict) or not said:
        message = "no jobs stand here: a workflow of GitHub Actions has `jobs` with at least one"
        return [], [(("jobs",), Fault(message=message, code="missing_key"))]
    faults: list[tuple[Path, Fault]] = []
    needs: dict[str, list[str]] = {}
    for name, job in said.items():
        path: Path = ("jobs", name)
        if not isinstance(job, dict):
            faults.append((path, Fault(message="a job is a mapping", code="wrong_type")))
            continue
        if "uses" not in job and not isinstance(job.get("steps"), list):
            faults.append((path, Fault(message="a job has `steps`, or `uses`", code="missing_key")))
        wanted = job.get("needs") or []
        wanted = [wanted] if isinstance(wanted, str) else wanted
        if not isinstance(wanted, list) or not all(isinstance(each, str) for each in wanted):
            faults.append(
                ((*path, "needs"), Fault(message="names of jobs must stand here", code="wrong_type"))
            )
            wanted = []
        for each in wanted:
            if each not in said:
                close = nearest(each, said)
                message = f"no job is called {each!r}"
                faults.append(((*path, "needs"), Fault(message=message, code="unknown_step", nearest=close)))
        needs[name] = [each for each in dict.fromkeys(wanted) if each in said]
    return ([], faults) if faults else _ordered(said, needs)


def _ordered(
    said: Mapping[str, Any], needs: Mapping[str, list[str]]
) -> tuple[list[Job], list[tuple[Path, Fault]]]:
    names = list(needs)
    index = {name: number for number, name in enumerate(names)}
    graph = Graph.build(names, ([index[each] for each in needs[name]] for name in names))
    cycle = graph.find_cycle()
    if cycle is not None:
        shown = " -> ".join(names[each] for each in [*cycle, cycle[0]])
        place: Path = ("jobs", names[cycle[0]], "needs")
        return [], [(place, Fault(message=f"the jobs need each other: {shown}", code="cycle"))]
    return [
        Job(name=names[each], path=("jobs", names[each]), said=said[names[each]], needs=needs[names[each]])
        for level in graph.levels()
        for each in level
    ], []


def _imported(tree: Mapping[str, Any], jobs: list[Job], report: Report, name: str) -> Imported:
    for key in tree:
        if key not in _TOP_KEYS or key == "on":
            report.leave_out((key,), f"`{key}`", ADVICE.get(key, ""))
    _declare_inputs(tree.get("on"), report)
    facts = Facts(
        report=report, names=StepNames(), env=_mapping(tree.get("env")), workflow=text_of(tree.get("name")),
        run=_mapping(_mapping(tree.get("defaults")).get("run")),
    )  # fmt: skip
    env = dict(_workflow_env(facts))
    results: dict[str, JobEnd] = {}
    steps: list[dict[str, Any]] = []
    for job in jobs:
        made, results[job.name] = job_steps(job, facts, results)
        steps += made
    if not steps:
        advice = "there would be nothing to run; write a workflow with the commands of its actions"
        message = "none of its jobs runs a command"
        raise ValidationError([Fault(message=message, path="jobs", code="nothing", advice=advice)])
    imported: dict[str, Any] = {"codomyrmex": 1, "name": name}
    if facts.workflow and facts.workflow != name:
        imported["description"] = facts.workflow
    if report.parameters:
        imported["parameters"] = report.parameters
    if env:
        imported["env"] = env
    imported["steps"] = steps
    left_out = sorted(report.left_out, key=lambda each: each.line or 0)
    return Imported(tree=imported, left_out=left_out, steps=len(steps))


def _workflow_env(facts: Facts) -> Iterator[tuple[str, str]]:
    context = Context(report=facts.report, path=("env",), values={"github.workflow": facts.workflow})
    for name, value in facts.env.items():
        try:
            yield name, context.variable(value)
        except NotCarried as error:
            advice = f"set {name} in the environment where you run the workflow"
            facts.report.leave_out(("env", name), f"the variable {name}: {error}", advice)


def _declare_inputs(on: Any, report: Report) -> None:
    """The inputs of a workflow that is started by hand, or called, are parameters."""
    for event in ("workflow_call", "workflow_dispatch"):
        inputs = _mapping(_mapping(_mapping(on).get(event)).get("inputs"))
        for name, said in inputs.items():
            declaration = _declaration(_mapping(said))
            clean = (clean_name(name, dots=False) or "input").replace("-", "_")
            report.declare(f"inputs.{name}", clean, declaration)
            report.declare(f"github.event.inputs.{name}", clean, declaration)


def _declaration(said: Mapping[str, Any]) -> dict[str, Any]:
    """A parameter from the declaration of an input; one whose default does not fit its type is text."""
    kind = _INPUT_TYPES.get(text_of(said.get("type")), "string")
    default = said.get("default")
    if default is None and said.get("required") is not True:
        default = {"boolean": False, "number": 0}.get(kind, "")
    flag = isinstance(default, bool)
    fits = {"boolean": flag, "number": isinstance(default, (int, float)) and not flag}
    if default is not None and (kind == "string" or not fits[kind]):
        kind, default = "string", text_of(default)
    declaration: dict[str, Any] = {"type": kind}
    if default is not None and "${" not in text_of(default):
        declaration["default"] = default
    if said.get("description"):
        declaration["description"] = text_of(said["description"])
    options = said.get("options")
    if isinstance(options, list) and kind == "string":
        choices = list(dict.fromkeys(map(text_of, options)))
        if choices and declaration.get("default", choices[0]) in choices:
            declaration["choices"] = choices
    return declaration


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
