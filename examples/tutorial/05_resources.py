"""Never more at once than there is: CPUs of the machine, and limits of your own."""

import time
from collections.abc import Iterable

from codomyrmex import OrchestrationEngine, Workflow


def work(number: int) -> int:
    time.sleep(0.02)
    return number * number


def most_at_once(tasks: Iterable) -> int:
    """The greatest number of tasks that ran at the same time, from what the engine recorded."""
    changes = [(task.started_at, 1) for task in tasks] + [(task.ended_at, -1) for task in tasks]
    running = most = 0
    for _instant, change in sorted(changes):
        running += change
        most = max(most, running)
    return most


# %% A step claims one CPU unless it says otherwise; `cpu: 0` is for work that mostly waits.
workflow = Workflow("limits")
workflow.map(work, over=list(range(8))).options(name="computing")
workflow.map(work, over=list(range(8))).options(name="computing_hard", resources={"cpu": 2})
workflow.map(work, over=list(range(8))).options(name="waiting", resources={"cpu": 0}, max_parallel=3)

# %% This engine shall have two CPUs, whatever the machine has.
if __name__ == "__main__":
    with OrchestrationEngine(state=":memory:", cpu_count=2) as engine:
        run = engine.execute_workflow(workflow)
        for step in workflow.steps:
            items = [task for task in run.tasks.values() if task.step == step.name and task.index is not None]
            print(f"{step.name:15} {len(items)} tasks, at most {most_at_once(items)} at once")
        print(run.results["waiting"])
