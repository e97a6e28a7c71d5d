"""When a job or a step of GitHub Actions starts: its `if` and its status functions as our rules and conditions.

Layer: pure. A condition without a status function begins with `success()`. What says `always()` or
`failure()` for the whole becomes a trigger rule; where they stand deeper, the statuses of the steps before are
asked for by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from codomyrmex.logistics.orchestration.project.workflow_import.actions_syntax import (
    STATUS_FUNCTIONS,
    Expression,
    constant,
    fold,
    walk,
)
from codomyrmex.logistics.orchestration.project.workflow_import.actions_text import (
    Context,
    JobEnd,
    NotCarried,
    any_failed,
)


@dataclass(slots=True, kw_only=True)
class Gate:
    """What lets a job start: the steps it waits for, the rule about them, and conditions that must hold.

    `never` is true where the condition can be seen to be false.
    """

    ends: list[str] = field(default_factory=list)
    rule: str = "none_failed"
    conditions: list[str] = field(default_factory=list)
    never: bool = False

    @property
    def asks_statuses(self) -> bool:
        """Whether a condition reads the status of a step, which may well have failed."""
        return any("steps[" in each for each in self.conditions)


def read_condition(said: Any, context: Context) -> Expression | None:
    """The tree of an `if`, or None where there is none; raises `NotCarried`."""
    if said is None:
        return None
    if not isinstance(said, str):
        return constant(said)
    text = said.strip()
    if text.startswith("${{") and text.endswith("}}") and text.count("${{") == 1:
        text = text[3:-2]
    elif "${{" in text:
        raise NotCarried("a condition that is a text with ${{ }} in it is always true there")
    return context.read(text)


def split_status(tree: Expression | None) -> tuple[str, Expression | None]:
    """How a condition treats failures before it (success, always, failure, mixed), and what is left of it."""
    if tree is None:
        return "success", None
    asks = any(_is_status(each) for each in walk(tree))
    settled = _settled(tree)
    parts = _conjuncts(settled)
    plain = [each for each in parts if not any(map(_is_status, walk(each)))]
    if len(plain) == len(parts):
        return ("always" if asks else "success"), _joined(parts)
    status = [each for each in parts if each not in plain]
    if len(status) == 1 and status[0].kind == "call":
        return status[0].value, _joined(plain)
    return "mixed", settled


def _is_status(tree: Expression) -> bool:
    return tree.kind == "call" and tree.value in STATUS_FUNCTIONS


def _settled(tree: Expression) -> Expression:
    """`always()` is true; nothing runs after a cancel here, so `cancelled()` is false."""
    if tree.kind == "call" and tree.value in ("always", "cancelled"):
        return constant(tree.value == "always")
    inner = replace(tree, operands=tuple(map(_settled, tree.operands)))
    if inner.kind == "||" and {each.value for each in inner.operands if _is_status(each)} == {
        "success",
        "failure",
    }:
        return constant(True)
    return fold(inner, lambda _: None) if inner.operands else inner


def _conjuncts(tree: Expression) -> list[Expression]:
    if tree.kind != "&&":
        return [tree]
    return [part for each in tree.operands for part in _conjuncts(each)]


def _joined(parts: list[Expression]) -> Expression | None:
    parts = [each for each in parts if not (each.known and each.value)]
    if not parts:
        return None
    found = parts[0]
    for part in parts[1:]:
        found = Expression("&&", None, (found, part), f"{found.source} && {part.source}")
    return found


def job_gate(said: Any, needs: list[str], results: Mapping[str, JobEnd], context: Context) -> Gate:
    """What lets a job start, from its `if` and the ends of the jobs that it needs."""
    ends = list(dict.fromkeys(end for job in needs for end in results[job].ends))
    failing = [each for job in needs if (each := results[job].failed)]
    context.failed = " or ".join(f"({each})" for each in failing) or "false"
    try:
        tree = read_condition(said, context)
    except NotCarried as error:
        context.report.leave_out((*context.path, "if"), f"`if: {said}`: {error}", "the job always starts")
        tree = None
    mode, rest = split_status(tree)
    gate = Gate(ends=ends, rule="none_failed" if mode == "success" else "all_done")
    if mode == "success":
        inherited = (each for job in needs for each in results[job].gates)
        gate.conditions = list(dict.fromkeys(inherited))
    if rest is not None and rest.known:
        gate.never = not rest.value
    elif rest is not None:
        gate.conditions.append(context.condition(rest))
    if mode == "failure":
        gate.conditions.append(context.failed)
        gate.never = gate.never or not failing
    if mode == "success" and gate.asks_statuses:
        gate.rule = "all_done"
        if failing:
            gate.conditions.append(f"not ({context.failed})")
    return gate


def earlier_failed(required: list[str]) -> str:
    """The condition that a step before has failed."""
    return any_failed(required)
