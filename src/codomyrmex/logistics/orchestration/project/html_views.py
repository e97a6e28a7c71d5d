"""Runs, workflows and graphs as a notebook shows them: HTML that stands by itself.

Layer: pure; it is given what it shows. Every value is escaped, nothing is fetched, nothing runs, and the
colours come from the page, so that it reads on light and dark ones. Where a page takes the style away
(an untrusted notebook, a mail), what is left is a plain table that says the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any

from codomyrmex.logistics.orchestration.project.expressions import ExpressionError, compile_condition
from codomyrmex.logistics.orchestration.project.graph_svg import graph_svg
from codomyrmex.logistics.orchestration.project.references import compile_template
from codomyrmex.logistics.orchestration.project.run_views import RunView, TaskCounts, TaskView
from codomyrmex.logistics.orchestration.project.workflow_dag import Graph

ROWS_AT_MOST = 40
LONGEST_VALUE = 120
_MARKS = {
    "completed": ("✓", "#2da44e"),
    "failed": ("✗", "#e5484d"),
    "cancelled": ("■", "#bf8700"),
    "skipped": ("–", "#8b949e"),
    "running": ("▶", "#388bfd"),
    "paused": ("‖", "#bf8700"),
    "pending": ("○", "#8b949e"),
    "blocked": ("○", "#8b949e"),
}
_LISTS = {"steps": "step", "on_failure": "on failure", "finally": "finally"}
_LABELS = {"foreach": "for each of", "run_if": "if", "timeout_s": "timeout", "compensate": "undone by"}
_STYLE = """<style>
.codomyrmex{font-size:13px;line-height:1.45;max-width:900px}
.codomyrmex table{border-collapse:collapse;margin:6px 0;border:none;font-size:inherit}
.codomyrmex tr,.codomyrmex tr:nth-child(even){background:transparent}
.codomyrmex th,.codomyrmex td{text-align:left;vertical-align:top;padding:2px 14px 2px 0;border:none;\
border-bottom:1px solid rgba(128,128,128,.25)}
.codomyrmex th{font-weight:600;opacity:.7}
.codomyrmex td.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.codomyrmex code{background:none;padding:0;color:inherit;font-size:12px}
.codomyrmex .quiet{opacity:.7}
.codomyrmex .error{border-left:3px solid #e5484d;padding-left:8px;margin:6px 0;white-space:pre-wrap}
.codomyrmex .span{position:relative;width:160px;height:9px;margin-top:5px;background:rgba(128,128,128,.14);\
border-radius:2px}
.codomyrmex .span i{position:absolute;top:0;bottom:0;min-width:2px;border-radius:2px}
</style>"""
_KINDS = ("workflow", "wait_for", "sleep", "approval")
_SAID_ELSEWHERE = ("name", "module", "action", "parameters", "dependencies", "description")


def execution_html(view: RunView, tasks: Sequence[TaskView]) -> str:
    """A run: how it stands, its steps with their times, its first error and its outputs.

    `tasks` may hold items of fan-outs too; those that failed are shown, the others stand in the counts.
    """
    steps = [task for task in tasks if task.index is None]
    shown = [task for task in tasks if task.index is None or task.status == "failed"]
    head = f"<b>{escape(view.workflow)}</b> {_mark(view.status)} {escape(view.status)}"
    if view.duration_s is not None:
        head += f" in {_duration(view.duration_s)}"
    head += f' <span class="quiet">· run {escape(view.execution_id)} · {_counted(view.tasks)}</span>'
    parts = [f"<div>{head}</div>"]
    if view.error is not None:
        parts.append(f'<div class="error">{escape(view.error)}{_frame(view, tasks)}</div>')
    parts.append(_table(("step", "", "attempts", "time", ""), _task_rows(view, shown[:ROWS_AT_MOST])))
    if len(shown) > ROWS_AT_MOST:
        parts.append(f'<div class="quiet">and {len(shown) - ROWS_AT_MOST} more of {len(steps)} steps</div>')
    for title, values in (("outputs", view.outputs), ("parameters", view.parameters)):
        if values:
            opened = " open" if title == "outputs" else ""
            parts.append(f"<details{opened}><summary>{title}</summary>{_value_table(values)}</details>")
    return _page(parts)


def workflow_html(tree: Mapping[str, Any]) -> str:
    """A workflow (as `Workflow.to_dict` gives it, checked or not): its graph and what each step calls."""
    steps: Sequence[Mapping[str, Any]] = tree.get("steps", ())
    count = len(steps)
    head = f'<b>{escape(str(tree.get("name", "")))}</b> <span class="quiet">{count} step{"s" * (count != 1)}</span>'
    parts = [f"<div>{head}</div>"]
    if tree.get("description"):
        parts.append(f"<div>{escape(str(tree['description']))}</div>")
    needs = [_needs(step) for step in steps]
    parts.append(_drawing([str(step["name"]) for step in steps], needs))
    for key, title in _LISTS.items():
        rows = [_step_row(step) for step in tree.get(key, ())[:ROWS_AT_MOST]]
        parts.append(_table((title, "calls", "after", ""), rows))
    if count > ROWS_AT_MOST:
        parts.append(f'<div class="quiet">and {count - ROWS_AT_MOST} more steps</div>')
    only_here = [str(step["name"]) for key in _LISTS for step in tree.get(key, ()) if _is_only_here(step)]
    if only_here:
        named = ", ".join(only_here)
        text = f"Not resumable by another process, which cannot find these functions: {named}"
        parts.append(f'<div class="quiet">{escape(text)}</div>')
    if tree.get("parameters"):
        declared = {name: _declared(value) for name, value in tree["parameters"].items()}
        parts.append(f"<details><summary>parameters</summary>{_value_table(declared)}</details>")
    return _page(parts)


def graph_html(graph: Graph) -> str:
    """A graph: its picture where it is small enough, else who waits for whom."""
    names, count = graph.names, len(graph)
    parts = [f'<div class="quiet">{count} task{"s" * (count != 1)}</div>']
    drawn = graph_svg(names, [graph.parents(node) for node in range(count)])
    if drawn is not None:
        return _page([*parts, f"<div>{drawn}</div>"])
    rows = [
        f"<tr><td>{escape(names[node])}</td>"
        f"<td>{escape(', '.join(names[parent] for parent in graph.parents(node)))}</td></tr>"
        for node in range(min(count, ROWS_AT_MOST))
    ]
    parts.append(_table(("task", "after"), rows))
    if count > ROWS_AT_MOST:
        parts.append(f'<div class="quiet">and {count - ROWS_AT_MOST} more</div>')
    return _page(parts)


def _page(parts: Iterable[str]) -> str:
    return f'{_STYLE}<div class="codomyrmex">{"".join(parts)}</div>'


def _table(titles: Sequence[str], rows: Sequence[str]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _mark(status: str) -> str:
    sign, colour = _MARKS.get(status, ("?", "#8b949e"))
    return f'<span style="color:{colour}">{sign}</span>'


def _task_rows(view: RunView, tasks: Sequence[TaskView]) -> list[str]:
    begun = [task.started_at for task in tasks if task.started_at is not None]
    ended = [task.ended_at for task in tasks if task.ended_at is not None]
    first = min(begun, default=view.started_at)
    last = max([*ended, *begun], default=first)
    return [_task_row(task, first, last) for task in tasks]


def _task_row(task: TaskView, first: datetime | None, last: datetime | None) -> str:
    said = escape(task.status)
    if task.counts is not None and task.counts.total:
        said += f' <span class="quiet">{_counted(task.counts, "item")}</span>'
    elif task.reason is not None:
        said += f' <span class="quiet">({escape(task.reason)})</span>'
    attempts = str(task.attempt) if task.attempt > 1 else ""
    took = _duration(task.duration_s) if task.duration_s is not None else ""
    name = f"<code>{escape(task.name)}</code>" if task.index is not None else escape(task.name)
    return (
        f'<tr><td>{name}</td><td>{_mark(task.status)} {said}</td><td class="n">{attempts}</td>'
        f'<td class="n">{took}</td><td>{_span(task, first, last)}</td></tr>'
    )


def _span(task: TaskView, first: datetime | None, last: datetime | None) -> str:
    """A bar for when the step ran within the run."""
    if task.started_at is None or task.ended_at is None or first is None or last is None or last <= first:
        return ""
    whole = (last - first).total_seconds()
    left = 100 * (task.started_at - first).total_seconds() / whole
    width = 100 * (task.ended_at - task.started_at).total_seconds() / whole
    colour = _MARKS.get(task.status, ("", "#8b949e"))[1]
    left = min(max(left, 0.0), 99.0)
    bar = f"left:{left:.1f}%;width:{min(max(width, 0.0), 100 - left):.1f}%;background:{colour}"
    return f'<div class="span"><i style="{bar}"></i></div>'


def _counted(counts: TaskCounts, noun: str = "task") -> str:
    names = ("completed", "failed", "cancelled", "skipped", "running", "pending", "blocked")
    said = [f"{getattr(counts, name)} {name}" for name in names if getattr(counts, name)]
    return f"{counts.total} {noun}{'s' * (counts.total != 1)}" + (f": {', '.join(said)}" if said else "")


def _frame(view: RunView, tasks: Sequence[TaskView]) -> str:
    """Where in the user's code the step that failed the run gave up."""
    for task in tasks:
        if task.name == view.failed_step and task.error and task.error.get("frame"):
            return f'\n<span class="quiet">{escape(str(task.error["frame"]))}</span>'
    return ""


def _duration(seconds: float) -> str:
    if seconds < 0.001:
        return "&lt; 1 ms"
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 120 else f"{minutes} min"


def _value_table(values: Mapping[str, Any]) -> str:
    rows = [
        f"<tr><td>{escape(str(name))}</td><td><code>{escape(_short(value))}</code></td></tr>"
        for name, value in values.items()
    ]
    return f"<table><tbody>{''.join(rows)}</tbody></table>"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"


def _declared(declaration: Any) -> str:
    if not isinstance(declaration, Mapping):
        return str(declaration)
    said = str(declaration.get("type", "any"))
    return f"{said} = {declaration['default']!r}" if "default" in declaration else said


def _drawing(names: Sequence[str], needs: Sequence[Sequence[str]]) -> str:
    index = {name: number for number, name in enumerate(names)}
    parents = [[index[name] for name in needed if name in index] for needed in needs]
    drawn = graph_svg(names, parents)
    return f"<div>{drawn}</div>" if drawn is not None else ""


def _needs(step: Mapping[str, Any]) -> list[str]:
    """The steps that one waits for: those it names, and those its references and condition mean."""
    found = [str(name) for name in step.get("dependencies") or ()]
    try:
        rest = {key: value for key, value in step.items() if key not in ("name", "run_if", "dependencies")}
        references = list(compile_template(rest).references)
        if step.get("run_if") is not None:
            references += compile_condition(str(step["run_if"])).references
    except ExpressionError:
        references = []  # the check says so when the workflow is run; what can be shown is shown
    found += sorted(each.step for each in references if each.root == "steps" and each.step is not None)
    return list(dict.fromkeys(found))


def _step_row(step: Mapping[str, Any]) -> str:
    return (
        f"<tr><td>{escape(str(step['name']))}</td><td><code>{escape(_calls(step))}</code></td>"
        f"<td>{escape(', '.join(_needs(step)))}</td><td>{_options(step)}</td></tr>"
    )


def _is_only_here(step: Mapping[str, Any]) -> bool:
    """Whether a step calls something that only ever existed in the memory of one process."""
    undo = step.get("compensate")
    if isinstance(undo, Mapping) and _is_only_here(undo):
        return True
    module = str(step.get("module", ""))
    return module == "__main__" or "<" in module or "<" in str(step.get("action", ""))


def _calls(step: Mapping[str, Any]) -> str:
    for kind in _KINDS:
        if step.get(kind) is not None:
            value = step[kind]
            if isinstance(value, Mapping):
                value = value.get("message", value.get("signal", ""))
            return _short(f"{kind}: {value}")
    module, action = str(step.get("module", "")), str(step.get("action", ""))
    shown = module.rpartition("/")[2] if module.endswith(".py") else module
    return f"{shown}:{action}" if shown not in ("", "__main__") else action


def _options(step: Mapping[str, Any]) -> str:
    said = []
    for key, value in step.items():
        if key in _SAID_ELSEWHERE or key in _KINDS:
            continue
        label = _LABELS.get(key, key.replace("_", " "))
        if key == "timeout_s":
            text = f"{value:g} s" if isinstance(value, (int, float)) else str(value)
        elif key == "compensate" and isinstance(value, Mapping):
            text = _calls(value)
        else:
            text = _compact(value)
        said.append(f"{escape(label)} <code>{escape(text)}</code>")
    return ", ".join(said)


def _compact(value: Any) -> str:
    if isinstance(value, Mapping):
        value = ", ".join(f"{key}={each}" for key, each in value.items())
    text = _short(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
