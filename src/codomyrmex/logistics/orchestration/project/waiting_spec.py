"""What a step waits for that holds no slot: another run, an answer, a signal, a time.

Layer: pure; read from a document by the compiler, used by `waiting_steps` when the step is opened. Texts are
templates: they are resolved then, for a fan-out once for each item.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from codomyrmex.logistics.orchestration.project.references import Template
from codomyrmex.logistics.orchestration.project.states import StepKind

NO_DEFAULT: Any = object()
CHILDREN_AT_ONCE = 16
"""So many items of a fan-out of child runs are open at a time where `max_parallel` says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingSpec:
    """One step without a slot; only the fields of its kind are set."""

    kind: StepKind
    text: Template | None = None
    """The message of an approval, the name of a signal, the time of a sleep where it is worked out."""
    sleep_s: float = 0.0
    child: str = ""
    """The name of the workflow."""
    form: Mapping[str, Any] | None = None
    who: tuple[str, ...] = ()
    timeout_s: float | None = None
    default: Any = NO_DEFAULT
    """What counts when nobody answers or signals in time; `NO_DEFAULT` where that is a failure."""


def waiting_spec(step: Mapping[str, Any], kind: StepKind, text: Template | None) -> WaitingSpec:
    """The specification in a step of a document; `text` is its template, compiled (see `text_of`)."""
    if kind is StepKind.WORKFLOW:
        return WaitingSpec(kind=kind, child=step["workflow"], timeout_s=step.get("timeout_s"))
    if kind is StepKind.SLEEP:
        fixed = step["sleep"] if text is None else 0.0
        return WaitingSpec(kind=kind, text=text, sleep_s=float(fixed))
    said = step[kind.value]
    return WaitingSpec(
        kind=kind,
        text=text,
        form=said.get("form"),
        who=tuple(said.get("who", ())),
        timeout_s=said.get("timeout_s"),
        default=said.get("default", NO_DEFAULT),
    )


def text_of(step: Mapping[str, Any], kind: StepKind) -> tuple[str, str | None]:
    """The key path below the step and the text that is to be compiled, or None where there is none."""
    if kind is StepKind.APPROVAL:
        return "approval", step["approval"]["message"]
    if kind is StepKind.SIGNAL:
        return "wait_for", step["wait_for"]["signal"]
    if kind is StepKind.SLEEP and isinstance(step["sleep"], str):
        return "sleep", step["sleep"]
    return kind.value, None
