"""A process that holds resources, told what to do line by line: `host_script.py engine|manager STATE ROOT`.

Prints `{"pid": N}` when it is open. Commands are documents on standard input, each answered by one on standard
output: `{"start": FILE}` starts a workflow, `{"recover": true}` takes over what dead engines left,
`{"take": {RESOURCE: AMOUNT}}` claims by hand. It leaves when its input ends; then everything that it holds is
given back in good order.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from codomyrmex.logistics.orchestration.project.resource_manager import ResourceManager

PATIENCE_S = 10.0


def serve(answers: Mapping[str, Callable[[Any], Any]]) -> None:
    """Answers commands until there are no more."""
    print(json.dumps({"pid": os.getpid()}), flush=True)
    for line in sys.stdin:
        ((word, given),) = json.loads(line).items()
        print(json.dumps(answers[word](given)), flush=True)


def taking(manager: ResourceManager) -> Callable[[Any], int]:
    """Claims by hand; answers how many allocations it got."""

    def take(wants: Any) -> int:
        return len(manager.allocate_resources(f"person-{os.getpid()}", wants, wait_s=PATIENCE_S) or ())

    return take


def main(kind: str, state: str, root: str) -> int:
    if kind == "manager":
        with ResourceManager(state=state) as manager:
            serve({"take": taking(manager)})
        return 0
    from codomyrmex.logistics.orchestration.project.orchestration_engine import OrchestrationEngine

    with OrchestrationEngine(state=state, root=root, recover=False) as engine:
        serve(
            {
                "start": lambda file: engine.start_workflow(file).execution_id,
                "recover": lambda _: engine.recover(),
                "take": taking(engine.resources),
            }
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
