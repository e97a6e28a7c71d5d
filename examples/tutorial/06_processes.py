"""Processes of their own: a crash or a step without end harms nobody else."""

import os
import textwrap

from codomyrmex import OrchestrationEngine, Workflow

NOTICE = "A step that crashes takes its own process with it: not the engine, and not the steps beside it."

# %% In a process a step can be ended, and a step that asks for a timeout is put into one. A process finds a function
# by its module (a script's own by its file), so what was typed into a notebook runs in threads only.
workflow = Workflow("processes")
workflow.step(textwrap.fill, text=NOTICE, width=40).options(name="notice", isolation="process")
workflow.step(os.abort).options(name="crash", isolation="process")
workflow.step("shell:run", command=["sleep", "60"]).options(name="endless", timeout="300ms")
workflow.step("shell:run", command=["tr", "a-z", "A-Z"], stdin="all is well\n").options(name="shout")

# %% Steps that do not depend on one that failed go on.
if __name__ == "__main__":
    with OrchestrationEngine(state=":memory:") as engine:
        run = engine.execute_workflow(workflow)
        for name, task in run.tasks.items():
            print(f"{name:8} {task.status:10} {task.error['kind'] if task.error else ''}".rstrip())
        print(run.results["notice"])
        print(run.results["shout"]["stdout"])
