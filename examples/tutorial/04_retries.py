"""What may fail: retries, steps that are not required, conditions, and a step that runs whatever happened."""

from codomyrmex import OrchestrationEngine, Workflow, current_task


def buoy() -> float:
    if current_task().attempt < 3:  # stands for a bad line: the first two attempts do not get through
        raise ConnectionError("no answer")
    return 4.5


def satellite() -> float:
    raise ConnectionError("below the horizon")


def warn(height: float) -> str:
    return f"waves of {height} m: boats stay in"


def report(buoy: float | None, satellite: float | None) -> str:
    return f"buoy says {buoy}, satellite says {satellite}"


# %%
workflow = Workflow("waves")
near = workflow.step(buoy).options(retry={"max_attempts": 5, "delay_s": 0.01, "on": ["ConnectionError"]})
far = workflow.step(satellite).options(required=False)
workflow.step(warn, height=near.output).options(run_if="steps.buoy.output > 3")
workflow.step(warn, height=near.output).options(name="all_clear", run_if="steps.buoy.output <= 3")
workflow.step(report, buoy=near.output, satellite="${steps.satellite.output ?? null}").options(
    trigger_rule="all_done"
)

# %%
if __name__ == "__main__":
    with OrchestrationEngine(state=":memory:") as engine:
        run = engine.execute_workflow(workflow)
        for name, task in run.tasks.items():
            error = f" ({task.error['message']})" if task.error else ""
            print(f"{name:10} {task.status:10} attempts: {task.attempt}{error}")
        print(f"the run is {run.status.value}")
        print(run.results["warn"])
        print(run.results["report"])
