"""An engine as a user's program would open it: `engine_script.py run|resume STATE ROOT FILE [NAME=VALUE...]`.

Prints `engine EPOCH` when it is open, and the status of its runs at their end.
"""

from __future__ import annotations

import sys

from codomyrmex.logistics.orchestration.project.orchestration_engine import OrchestrationEngine


def main(verb: str, state: str, root: str, file: str, *parameters: str) -> int:
    given = dict(parameter.split("=", 1) for parameter in parameters)
    with OrchestrationEngine(state=state, root=root, recover=False) as engine:
        print("engine", engine.epoch, flush=True)
        ids = [engine.start_workflow(file, given).execution_id] if verb == "run" else engine.recover()
        for run_id in ids:
            engine.wait(run_id)
        found = [engine.reader.run(run_id).status for run_id in ids]
    print(" ".join(found), flush=True)
    return 0 if all(status == "completed" for status in found) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
