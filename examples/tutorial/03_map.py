"""Fan-out: one step, many tasks. How many primes are there below 100,000?"""

from codomyrmex import OrchestrationEngine, Workflow


def blocks(limit: int, size: int) -> list[list[int]]:
    return [[start, min(start + size, limit)] for start in range(0, limit, size)]


def primes(block: list[int]) -> int:
    return sum(is_prime(number) for number in range(*block))


def is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))


def total(counts: list[int]) -> int:
    return sum(counts)


# %% The list need not be known yet: `blocks` makes it, and then there is a task for each of its items.
workflow = Workflow("primes", parameters={"limit": {"type": "integer", "default": 100_000}})
found = workflow.step(blocks, limit=workflow.parameters["limit"], size=20_000)
counts = workflow.map(primes, over=found.output)
result = workflow.step(total, counts=counts.output)
workflow.outputs = {"primes": result.output}

# %% The output of the step is the list of what its tasks returned, in the order of the items.
if __name__ == "__main__":
    with OrchestrationEngine(state=":memory:") as engine:
        run = engine.execute_workflow(workflow)
        print("tasks:  ", ", ".join(run.tasks))
        print("counts: ", run.results["primes"])
        print("outputs:", dict(run.outputs))
