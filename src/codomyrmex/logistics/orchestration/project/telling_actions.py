"""Which actions are known by their name: how long one took says something of the next.

Layer: pure. Of a command, a script or a request, of a recorded time and of a function without a name of its own,
only the step tells how long it takes.
"""

from __future__ import annotations

from codomyrmex.logistics.orchestration.project.step_spec import WORKER_MODULES, StepSpec

SAYS_NOTHING = WORKER_MODULES | {"codomyrmex.logistics.orchestration.project.recorded_work"}
"""Modules whose actions take as long as their parameters say."""


def telling_action(spec: StepSpec) -> str:
    """`module.action` of an action that is known by its name; empty for others."""
    if spec.module in SAYS_NOTHING or spec.module == "__main__" or "<" in spec.action:
        return ""
    return f"{spec.module}.{spec.action}"
