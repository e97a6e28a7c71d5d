"""What `assert_resumes` kills: `python -m codomyrmex.testing.engine_process STATE FILE PARAMETERS ANSWERS`.

Layer: testing. It takes over what an earlier one left; when there was nothing, it starts the workflow. It
says `working` as soon as a run is under way, and ends with 0 when that has ended, however it did. Questions and
signals are answered as ANSWERS says; where one would wait for ever, it ends with 1 and says so.
"""

from __future__ import annotations

import json
import sys

from codomyrmex.logistics.orchestration.project.orchestration_engine import OrchestrationEngine
from codomyrmex.testing.answers import Answers
from codomyrmex.workspace import find_workspace


def main(state: str, file: str, parameters: str, given: str) -> None:
    """Goes on with what is unfinished, or begins."""
    with OrchestrationEngine(state=state, root=find_workspace(file=file).root, recover=False) as engine:
        definition = engine.workflows.definition(file)
        answers = Answers(engine, definition.document["name"], json.loads(given))
        taken = engine.recover()
        if not taken:
            taken = [engine.start_workflow(file, json.loads(parameters)).execution_id]
        sys.stdout.write("working\n")
        sys.stdout.flush()
        for run_id in taken:
            engine.wait(run_id)
        if answers.fault is not None:
            sys.exit(f"{answers.fault.message}; {answers.fault.hint}")


if __name__ == "__main__":
    main(*sys.argv[1:5])
