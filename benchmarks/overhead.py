"""What the engine adds to a task that does nothing, against executors of the standard library that keep nothing.

    python benchmarks/overhead.py [--rounds N] [--layers N] [--width N] [--no-latency] [--json]

The graph has 50 layers of 100 tasks, each with three parents in the layer above (seed 1). The base is what
anybody writes in a minute: `graphlib` and a pool of two, in two forms (`wait(FIRST_COMPLETED)`, callbacks and a
queue); the faster of each round is compared with. All cases of a round run one after the other, again in the
next round; ratios are taken within a round.

What is prepared outside the clock, on both sides: the pool with two workers that have worked before, or the
open engine with as many; the graph as a dict, or the checked definition. The engine's clock begins when it is
given the run, so storing the definition counts, and ends when the run does. What reading and checking the
definition takes is told apart, and with it.

Latency: tasks of 0 to 50 ms, eight at a time; from the moment an action returns (its result says when) to
the moment a handler is told of the commit, which is a little after the commit itself.
"""

from __future__ import annotations

import argparse
import graphlib
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Executor, ProcessPoolExecutor, ThreadPoolExecutor, wait
from pathlib import Path
from queue import SimpleQueue
from typing import Any

ACTIONS = Path(__file__).parent / "actions"
sys.path.insert(0, str(ACTIONS))

from bench_actions import noop, pause  # noqa: E402

from codomyrmex import OrchestrationEngine  # noqa: E402

SLOTS = 2
PARENTS = 3
LIMITS = {
    "thread, memory": 1.0,
    "thread, barrier": 2.0,
    "thread, power": 4.0,
    "process, memory": 1.0,
    "process, barrier": 1.0,
}
"""Times the base; those of issue 2."""
LATENCY_LIMIT_MS = 10.0
Graph = dict[str, list[str]]


def layered_graph(layers: int, width: int) -> Graph:
    """Task -> parents; always the same for the same numbers."""
    chance = random.Random(1)
    graph: Graph = {}
    for layer in range(layers):
        for index in range(width):
            above = chance.sample(range(width), min(PARENTS, width)) if layer else []
            graph[f"s{layer}_{index}"] = [f"s{layer - 1}_{parent}" for parent in above]
    return graph


# -- the base --------------------------------------------------------------------------------------


def by_waiting(pool: Executor, graph: Graph) -> None:
    sorter = graphlib.TopologicalSorter(graph)
    sorter.prepare()
    names = {pool.submit(noop): name for name in sorter.get_ready()}
    results = {}
    while names:
        done, _ = wait(names, return_when=FIRST_COMPLETED)
        for future in done:
            name = names.pop(future)
            results[name] = future.result()
            sorter.done(name)
        for name in sorter.get_ready():
            names[pool.submit(noop)] = name


def by_callbacks(pool: Executor, graph: Graph) -> None:
    sorter = graphlib.TopologicalSorter(graph)
    sorter.prepare()
    ended: SimpleQueue[Any] = SimpleQueue()
    results = {}

    def submit(name: str) -> None:
        pool.submit(noop).add_done_callback(lambda future: ended.put((name, future)))

    for name in sorter.get_ready():
        submit(name)
    while sorter.is_active():
        name, future = ended.get()
        results[name] = future.result()
        sorter.done(name)
        for ready in sorter.get_ready():
            submit(ready)


def base_us(
    pool_type: Callable[[int], Executor], form: Callable[[Executor, Graph], None], graph: Graph
) -> float:
    """Microseconds a task of one form of the base."""
    with pool_type(SLOTS) as pool:
        for future in [pool.submit(pause, 0.01) for _ in range(2 * SLOTS)]:
            future.result()
        began = time.perf_counter()
        form(pool, graph)
        return (time.perf_counter() - began) / len(graph) * 1e6


# -- the engine ------------------------------------------------------------------------------------


def definition(graph: Graph, isolation: str) -> dict[str, Any]:
    call = {"module": "bench_actions", "action": "noop"}
    steps = [{"name": name, **call, "dependencies": parents} for name, parents in graph.items()]
    return {"codomyrmex": 1, "name": "layered", "isolation": isolation, "steps": steps}


def pauses(seconds: list[float], isolation: str) -> dict[str, Any]:
    call = {"module": "bench_actions", "action": "pause"}
    steps = [{"name": f"p{i}", **call, "parameters": {"seconds": s}} for i, s in enumerate(seconds)]
    return {"codomyrmex": 1, "name": "pauses", "isolation": isolation, "steps": steps}


class Opened:
    """An engine whose slots have worked before; in memory, or in a folder that goes with it."""

    def __init__(self, level: str, isolation: str, *, slots: int = SLOTS) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix=".overhead-", dir=Path.cwd())
        state = ":memory:" if level == "memory" else f"{self._folder.name}/state"
        durability = "barrier" if level == "memory" else level
        self._engine = OrchestrationEngine(state=state, durability=durability, root=ACTIONS, cpu_count=slots)
        self._given_at = 0.0
        self._isolation = isolation
        self._slots = slots

    def __enter__(self) -> OrchestrationEngine:
        host = self._engine._host
        start = host.start

        def given(*run: Any) -> Any:
            self._given_at = time.perf_counter()
            return start(*run)

        host.start = given
        self._engine.execute_workflow(pauses([0.02] * self._slots, self._isolation))
        return self._engine

    def __exit__(self, *_: object) -> None:
        self._engine.shutdown()
        self._folder.cleanup()

    def figures(self, document: dict[str, Any]) -> dict[str, float]:
        """Microseconds a task: of the run, and of reading and checking its definition before that."""
        called = time.perf_counter()
        execution = self._engine.start_workflow(document)
        self._engine.wait(execution.execution_id)
        ended = time.perf_counter()
        assert execution.success, execution.error
        each = 1e6 / len(document["steps"])
        return {"run": (ended - self._given_at) * each, "read": (self._given_at - called) * each}


def engine_us(case: str, graph: Graph) -> dict[str, float]:
    isolation, level = case.split(", ")
    opened = Opened(level, isolation)
    with opened:
        return opened.figures(definition(graph, isolation))


# -- measuring -------------------------------------------------------------------------------------


def one_round(graph: Graph) -> dict[str, Any]:
    """Every case once, in microseconds a task, and the ratios to the bases of this round."""
    found: dict[str, Any] = {}
    for isolation, pool in (("thread", ThreadPoolExecutor), ("process", ProcessPoolExecutor)):
        forms = {form.__name__: base_us(pool, form, graph) for form in (by_waiting, by_callbacks)}
        found[isolation] = {"base": forms, "cases": {}}
        for case in (case for case in LIMITS if case.startswith(isolation)):
            figures = engine_us(case, graph)
            figures["ratio"] = figures["run"] / min(forms.values())
            figures["ratio with reading"] = (figures["run"] + figures["read"]) / min(forms.values())
            found[isolation]["cases"][case] = figures
    return found


def latencies_ms(isolation: str, tasks: int) -> list[float]:
    """From the action's return to the news of the commit, in milliseconds, ascending."""
    chance = random.Random(2)
    told: dict[str, int] = {}
    opened = Opened("barrier", isolation, slots=8)
    with opened as engine:
        engine.register_event_handler(
            "completed", lambda _, data: told.setdefault(data["task"], time.time_ns())
        )
        execution = engine.start_workflow(pauses([chance.uniform(0, 0.05) for _ in range(tasks)], isolation))
        engine.wait(execution.execution_id)
        returned = dict(execution.results)
    return sorted((told[name] - returned[name]) / 1e6 for name in returned)


def latency(tasks: int) -> dict[str, dict[str, float]]:
    found = {}
    for isolation in ("thread", "process"):
        each = latencies_ms(isolation, tasks)
        found[isolation] = {
            "p50": statistics.median(each), "p99": each[int(len(each) * 0.99)], "highest": each[-1],
        }  # fmt: skip
    return found


def medians(rounds: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """The median of every figure of every case over the rounds."""
    return {
        case: {
            figure: statistics.median(each[case.split(",")[0]]["cases"][case][figure] for each in rounds)
            for figure in ("run", "read", "ratio", "ratio with reading")
        }
        for case in LIMITS
    }


def show_round(number: int, found: dict[str, Any]) -> None:
    for isolation, figures in found.items():
        forms = figures["base"]
        best = min(forms, key=forms.__getitem__)
        base = ", ".join(f"{name} {us:.1f}" for name, us in forms.items())
        cases = "; ".join(
            f"{case.split(', ')[1]} {each['run']:.1f} ({each['ratio']:.2f} x)"
            for case, each in figures["cases"].items()
        )
        print(f"round {number}, {isolation}: base {base} (compared with {best}); {cases}", flush=True)


def show(found: dict[str, Any]) -> None:
    print(f"\n{'median, us a task':20}{'run':>8}{'x base':>9}{'limit':>7}   reading {'with reading':>14}")
    for case, each in found["median"].items():
        mark = "" if each["ratio"] <= LIMITS[case] else "  BROKEN"
        print(
            f"{case:20}{each['run']:8.1f}{each['ratio']:9.2f}{LIMITS[case]:7.1f}   {each['read']:7.1f}"
            f" {each['ratio with reading']:12.2f} x{mark}"
        )
    for isolation, each in found.get("latency_ms", {}).items():
        mark = "" if each["p99"] <= LATENCY_LIMIT_MS else "  BROKEN"
        print(
            f"finish to commit, {isolation}: p50 {each['p50']:.2f} ms, p99 {each['p99']:.2f} ms, "
            f"highest {each['highest']:.2f} ms; limit of p99 {LATENCY_LIMIT_MS:g} ms{mark}"
        )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layers", type=int, default=50)
    parser.add_argument("--width", type=int, default=100)
    parser.add_argument("--latency-tasks", type=int, default=400)
    parser.add_argument("--no-latency", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    graph = layered_graph(options.layers, options.width)
    rounds = []
    for number in range(1, options.rounds + 1):
        rounds.append(one_round(graph))
        if not options.json:
            show_round(number, rounds[-1])
    found: dict[str, Any] = {
        "tasks": len(graph),
        "rounds": rounds,
        "median": medians(rounds),
        "limits": LIMITS,
    }
    if not options.no_latency:
        found["latency_ms"] = latency(options.latency_tasks)
    if options.json:
        print(json.dumps(found))
    else:
        show(found)
    broken = any(each["ratio"] > LIMITS[case] for case, each in found["median"].items())
    broken |= any(each["p99"] > LATENCY_LIMIT_MS for each in found.get("latency_ms", {}).values())
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
