"""A first workflow: three functions, joined by what they return."""

from collections import Counter

from codomyrmex import OrchestrationEngine, Workflow

BOOK = """
The harbour keeps a book. Every ship that comes is written in the book,
and every ship that goes is written in the book.
"""


def words(text: str) -> list[str]:
    return [word.strip(".,").lower() for word in text.split()]


def count(found: list[str]) -> dict[str, int]:
    return dict(Counter(found).most_common(3))


def report(found: list[str], counts: dict[str, int]) -> str:
    often = ", ".join(f"{word} ({times})" for word, times in counts.items())
    return f"{len(found)} words; the most frequent: {often}"


# %% Nothing is called while a workflow is built: `.output` stands for a result to come.
workflow = Workflow("first")
found = workflow.step(words, text=BOOK)
counts = workflow.step(count, found=found.output)
workflow.step(report, found=found.output, counts=counts.output)

# %% An engine runs it; this one remembers in memory only.
if __name__ == "__main__":
    with OrchestrationEngine(state=":memory:") as engine:
        run = engine.execute_workflow(workflow)
        print(f"{run.workflow_name}: {run.status.value}")
        for name, task in run.tasks.items():
            print(f"  {name:8} {task.status}")
        print(run.results["report"])
