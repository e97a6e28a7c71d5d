"""Workflows within workflows, and results that are not worked out twice."""

from codomyrmex import OrchestrationEngine, Workflow

CHAPTERS = ["The ship is late.", "Fog on the water, and nobody speaks.", "At noon she comes in."]
CALLS: list[str] = []


def count_words(text: str) -> int:
    CALLS.append(text)
    return len(text.split())


def add_up(chapters: list[dict[str, int]]) -> int:
    return sum(chapter["words"] for chapter in chapters)


# %% The child: a workflow of its own, whose outputs are what its parent sees. `cache` keeps what a step returned.
chapter = Workflow("chapter", parameters={"text": {"type": "string"}})
words = chapter.step(count_words, text=chapter.parameters["text"]).options(cache=True)
chapter.outputs = {"words": words.output}

# %% The parent runs it once for each chapter, each as a run that can be looked at.
book = Workflow("book", parameters={"chapters": {"type": "list"}})
parts = book.child(chapter, text=Workflow.item).options(foreach=book.parameters["chapters"])
total = book.step(add_up, chapters=parts.output)
book.outputs = {"words": total.output}

# %% Between the two runs one chapter has changed: only that one is counted again.
if __name__ == "__main__":
    CALLS.clear()
    with OrchestrationEngine(state=":memory:") as engine:
        first = engine.execute_workflow(book, chapters=CHAPTERS)
        print(dict(first.outputs), "after", len(CALLS), "calls")

        changed = [*CHAPTERS[:2], "At noon she comes in, all flags flying."]
        again = engine.execute_workflow(book, chapters=changed)
        print(dict(again.outputs), "after", len(CALLS), "calls")
