"""A workflow with parameters and outputs, saved as a file and run from it."""

import statistics
import tempfile
from pathlib import Path

from codomyrmex import OrchestrationEngine, Workflow

# %% Any importable function can be an action; `.output[1]` goes into a result that is not there yet.
workflow = Workflow(
    "depths", parameters={"readings": {"type": "list"}, "parts": {"type": "integer", "default": 4}}
)
readings = workflow.parameters["readings"]
mean = workflow.step(statistics.fmean, data=readings)
cuts = workflow.step(statistics.quantiles, data=readings, n=workflow.parameters["parts"])
workflow.outputs = {"mean": mean.output, "first_cut": cuts.output[0]}

# %% A workflow is data: what was built here is the same as this file.
if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "depths.yaml")
        workflow.save(file)
        print(file.read_text())

        with OrchestrationEngine(state=":memory:") as engine:
            here = engine.execute_workflow(workflow, readings=[2, 3, 5, 7, 11])
            print("built here:    ", dict(here.outputs))
            from_file = engine.execute_workflow(file, readings=[2, 3, 5, 7, 11], parts=2)
            print("from the file: ", dict(from_file.outputs))
