"""`WorkflowDAG` against a bare dict-based Kahn sort: build, validate and levels of one large graph.

Both sides start from the same list of task mappings, each in a fresh process, alternated, so that
neither profits from the other's heap. "Memory" is the growth of the resident set while the answer is
held, without the tasks themselves. The promise is a median ratio of at most 2 at 1,000,000 nodes.

    python benchmarks/dag.py [--nodes N] [--edges PER_NODE] [--rounds N] [--shuffled] [--json]
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

Tasks = list[dict[str, Any]]


def layered_tasks(nodes: int, edges: int, *, shuffled: bool) -> Tasks:
    """Each task waits for `edges` of the 1,000 before it; always the same graph for the same numbers."""
    chance = random.Random(20261122)
    tasks: Tasks = []
    for index in range(nodes):
        earlier = range(max(0, index - 1000), index)
        waits = {chance.choice(earlier) for _ in range(edges)} if index else set()
        tasks.append({"name": f"task-{index}", "dependencies": [f"task-{other}" for other in sorted(waits)]})
    if shuffled:
        chance.shuffle(tasks)
    return tasks


def bare_kahn(tasks: Tasks) -> tuple[Any, int]:
    """What anybody writes in a minute: two dicts, no checks, levels of names."""
    children: dict[str, list[str]] = {task["name"]: [] for task in tasks}
    missing: dict[str, int] = {}
    for task in tasks:
        missing[task["name"]] = len(task["dependencies"])
        for name in task["dependencies"]:
            children[name].append(task["name"])
    level = [name for name, count in missing.items() if not count]
    levels = []
    while level:
        levels.append(level)
        following = []
        for name in level:
            for child in children[name]:
                missing[child] -= 1
                if not missing[child]:
                    following.append(child)
        level = following
    return (children, missing, levels), len(levels)


def workflow_dag(tasks: Tasks) -> tuple[Any, int]:
    """The public class: build, validate, levels of names."""
    from codomyrmex.logistics.orchestration.project.workflow_dag import WorkflowDAG

    dag = WorkflowDAG(tasks)
    valid, faults = dag.validate_dag()
    if not valid:
        raise SystemExit(f"the benchmark's graph is refused: {faults[:3]}")
    levels = dag.get_execution_order()
    return (dag, levels), len(levels)


SIDES: dict[str, Callable[[Tasks], tuple[Any, int]]] = {"kahn": bare_kahn, "dag": workflow_dag}


def resident_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096


def measure(side: str, options: argparse.Namespace) -> dict[str, float]:
    """One side in this process."""
    tasks = layered_tasks(options.nodes, options.edges, shuffled=options.shuffled)
    SIDES[side](tasks[:0])  # imports are not what is measured
    gc.collect()
    before = resident_bytes()
    start = time.perf_counter()
    held, levels = SIDES[side](tasks)
    seconds = time.perf_counter() - start
    gc.collect()
    grown = resident_bytes() - before
    del held
    return {"seconds": seconds, "bytes_per_node": grown / max(options.nodes, 1), "levels": levels}


def in_fresh_process(side: str, arguments: list[str]) -> dict[str, float]:
    command = [sys.executable, __file__, *arguments, "--side", side]
    answer: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--nodes", type=int, default=1_000_000)
    parser.add_argument("--edges", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shuffled", action="store_true", help="tasks stand in random order")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--side", choices=sorted(SIDES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(measure(options.side, options)))
        return
    arguments = ["--nodes", str(options.nodes), "--edges", str(options.edges)]
    arguments += ["--shuffled"] if options.shuffled else []
    rounds = []
    for number in range(options.rounds):
        pair = {side: in_fresh_process(side, arguments) for side in sorted(SIDES, reverse=number % 2 == 0)}
        if pair["kahn"]["levels"] != pair["dag"]["levels"]:
            raise SystemExit(f"the two sides disagree on the levels: {pair}")
        rounds.append(pair)
        if not options.json:
            kahn, dag = pair["kahn"], pair["dag"]
            print(
                f"round {number + 1}: kahn {kahn['seconds']:.2f} s {kahn['bytes_per_node']:.0f} B/node, "
                f"WorkflowDAG {dag['seconds']:.2f} s {dag['bytes_per_node']:.0f} B/node, "
                f"ratio {dag['seconds'] / kahn['seconds']:.2f}",
                flush=True,
            )
    ratio = statistics.median(pair["dag"]["seconds"] / pair["kahn"]["seconds"] for pair in rounds)
    memory = statistics.median(
        pair["dag"]["bytes_per_node"] / pair["kahn"]["bytes_per_node"] for pair in rounds
    )
    if options.json:
        print(
            json.dumps(
                {"nodes": options.nodes, "time_ratio": ratio, "memory_ratio": memory, "rounds": rounds}
            )
        )
    else:
        print(f"{options.nodes} nodes: median time ratio {ratio:.2f}, median memory ratio {memory:.2f}")


if __name__ == "__main__":
    main()
