"""An engine as a user's program would open it: `engine_script.py run|resume STATE ROOT FILE [NAME=VALUE...]`.

Prints `engine EPOCH` when it is open, and the status of its runs at their end. `PATIENCE_S` in the
environment is how long a failing store is tried again, `LARGEST_FILE_BYTES` how large its files may grow, `FOLLOW`
the order in which the tasks of a new run are to begin (JSON).
"""

from __future__ import annotations

import json
import os
import resource
import sys

from codomyrmex.logistics.orchestration.project.orchestration_engine import OrchestrationEngine


def main(verb: str, state: str, root: str, file: str, *parameters: str) -> int:
    given = dict(parameter.split("=", 1) for parameter in parameters)
    largest = int(os.environ.get("LARGEST_FILE_BYTES", "0"))
    if largest:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))
    follow = json.loads(os.environ.get("FOLLOW", "null"))
    patience_s = float(os.environ.get("PATIENCE_S", "30"))
    with OrchestrationEngine(state=state, root=root, recover=False, patience_s=patience_s) as engine:
        print("engine", engine.epoch, flush=True)
        ids = (
            [engine.start_workflow(file, given, follow=follow).execution_id]
            if verb == "run"
            else engine.recover()
        )
        for run_id in ids:
            engine.wait(run_id)
        found = [engine.reader.run(run_id).status for run_id in ids]
    print(" ".join(found), flush=True)
    return 0 if all(status == "completed" for status in found) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
