"""The kinds of step that hold no slot, and the parts of a step that are mappings: their canonical form.

Layer: pure. A step has an action, or it is one of four kinds that wait without a slot and without resources:
a child run, an approval, a signal, a pause. What is read here has been found without fault; what may stand
beside which kind is told in one table (`BESIDE_KIND`), which the check and the schema use.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from codomyrmex.logistics.orchestration.project.amounts import read_duration_s

WAITING_KINDS = ("workflow", "approval", "wait_for", "sleep")
STEP_LISTS = ("steps", "on_failure", "finally")
"""The keys of a workflow that hold steps, in the order of a run."""
COMPENSATION = "compensate"

ITEM_FAILURES = ("fail", "stop", "continue")
CONCURRENCY_POLICIES = ("queue", "skip", "cancel_old")

COMPENSATION_KEYS = frozenset(
    [
        *(
            "run",
            "call",
            "with",
            "module",
            "action",
            "parameters",
            "retry",
            "max_retries",
            "timeout",
            "timeout_s",
        ),
        *("resources", "isolation", "env", "working_dir", "python", "description"),
    ]
)
"""What a compensation may say; the rest of a step's keys are its step's."""

_ATTEMPT_KEYS = ("resources", "isolation", "env", "working_dir", "python", "effects", "cache")
_TIMEOUTS = ("timeout", "timeout_s")
_GIVEN = ("with", "parameters")
_TRIES = ("retry", "max_retries", "retry_count")

BESIDE_KIND: Mapping[str, frozenset[str]] = {
    "workflow": frozenset(_ATTEMPT_KEYS),
    "approval": frozenset([*_ATTEMPT_KEYS, *_TIMEOUTS, *_GIVEN, *_TRIES]),
    "wait_for": frozenset([*_ATTEMPT_KEYS, *_TIMEOUTS, *_GIVEN, *_TRIES]),
    "sleep": frozenset([*_ATTEMPT_KEYS, *_TIMEOUTS, *_GIVEN, *_TRIES]),
}
"""The keys of a step that may not stand beside each kind."""


def kind_of(step: Mapping[str, Any]) -> str | None:
    """The kind of a step that holds no slot, or None where it calls an action."""
    if "module" in step or "run" in step or "call" in step:
        return None
    return next((kind for kind in WAITING_KINDS if kind in step), None)


def compensation_name(step: str) -> str:
    """The task that undoes a step is called so, and so is its function among those made in Python."""
    return f"{step}.{COMPENSATION}"


def read_approval(value: Any) -> dict[str, Any]:
    """`approval: TEXT` is its message; `who` may be one name."""
    if isinstance(value, str):
        return {"message": value}
    approval = _with_seconds(value, "timeout")
    who = approval.get("who")
    if isinstance(who, str):
        approval["who"] = [who]
    for key in ("who", "form"):
        if key in approval and not approval[key]:
            del approval[key]
    return approval


def read_wait_for(value: Any) -> dict[str, Any]:
    """`wait_for: NAME` is the name of its signal."""
    return {"signal": value} if isinstance(value, str) else _with_seconds(value, "timeout")


def read_sleep(value: float | str) -> float | str:
    """Seconds; a text with `${...}` is read as a duration when its value is known."""
    return value if isinstance(value, str) and "${" in value else read_duration_s(value)


def read_cache(value: Any) -> dict[str, Any] | None:
    """`cache: true` says nothing but that results are kept; `false` is no cache."""
    if isinstance(value, bool):
        return {} if value else None
    cache = _with_seconds(value, "ttl")
    for key in ("inputs", "outputs", "also"):
        given = cache.get(key)
        if given is None:
            continue
        cache[key] = given if isinstance(given, list) else [given]
        if not cache[key]:
            del cache[key]
    return cache


def read_concurrency(value: Any) -> dict[str, Any]:
    """`concurrency: TEXT` is its key."""
    if isinstance(value, str):
        return {"key": value}
    kept = {key: each for key, each in value.items() if not key.startswith("x-")}
    if kept.get("policy") == "queue":
        del kept["policy"]
    return kept


def _with_seconds(value: Mapping[str, Any], short: str) -> dict[str, Any]:
    """A copy without `x-` keys, with a duration like `timeout: 2h` as `timeout_s`."""
    found: dict[str, Any] = {}
    for key, each in value.items():
        if key in (short, f"{short}_s"):
            found[f"{short}_s"] = read_duration_s(each)
        elif not key.startswith("x-"):
            found[key] = each
    return found
