"""Waiting for people and for other programs: an approval and a signal, neither of which holds a slot."""

import time

from codomyrmex import OrchestrationEngine, Workflow


def draft(title: str) -> dict[str, str]:
    return {"title": title, "text": f"{title}: the north pier is closed until Friday."}


def publish(text: str, copies: int, note: str) -> str:
    return f"{copies} copies of {text!r} ({note})"


# %% An approval has one inbox, whoever asks. A signal is kept: it may come before anybody waits for it.
workflow = Workflow("notice")
notice = workflow.step(draft, title="Notice 7")
answer = workflow.approval("approve", f"Publish {notice.output['title']}?", who="ada", timeout="2d")
printed = workflow.wait_for("printed")
workflow.step(
    publish, text=notice.output["text"], copies=printed.output["copies"], note=answer.output["comment"]
).options(run_if="steps.approve.output.approved")

# %% The program asks and answers itself here; a run on disk would wait for days, also without a process.
if __name__ == "__main__":
    with OrchestrationEngine(state=":memory:") as engine:
        run = engine.start_workflow(workflow)
        engine.signal(run.execution_id, "printed", {"copies": 200})
        while run.tasks["approve"].reason != "approval":
            time.sleep(0.01)
        print("approve is", run.tasks["approve"].status)

        engine.answer(run.execution_id, "approve", approved=True, by="ada", comment="at last")
        run.wait()
        print(run.status.value, "-", run.results["publish"])
