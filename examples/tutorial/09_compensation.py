"""Undoing: what was done is taken back in reverse order when the run fails, and `finally` closes the book."""

from codomyrmex import OrchestrationEngine, Workflow

BOOK: list[str] = []


def reserve(what: str, price: int) -> dict:
    BOOK.append(f"reserved the {what} for {price}")
    return {"what": what, "price": price}


def give_back(reservation: dict) -> None:
    BOOK.append(f"gave back the {reservation['what']}")


def pay(prices: list[int]) -> int:
    raise ValueError(f"the account does not hold {sum(prices)}")


def write(text: str) -> None:
    BOOK.append(text)


# %% A compensation gets what its step returned. It is a task of the run: recorded, retried, resumed as any other.
workflow = Workflow("voyage")
berth = workflow.step(reserve, what="berth", price=300).options(name="berth", compensate=give_back)
pilot = workflow.step(reserve, what="pilot", price=120).options(
    name="pilot", compensate=give_back, needs=[berth]
)
workflow.step(pay, prices=[berth.output["price"], pilot.output["price"]])
workflow.on_failure(write, text="told the captain").options(name="tell")
workflow.finally_(write, text="closed the book").options(name="close")

# %%
if __name__ == "__main__":
    BOOK.clear()
    with OrchestrationEngine(state=":memory:") as engine:
        run = engine.execute_workflow(workflow)
        print(f"{run.status.value}: {run.error}")
        print("\n".join(BOOK))
        print("tasks:", ", ".join(run.tasks))
