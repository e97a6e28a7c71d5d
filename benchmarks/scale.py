"""A chain and a fan-out of 100,000 tasks: do they run, how long, and what does an item cost in memory?

    python benchmarks/scale.py [--tasks N] [--json]

Each case runs in a fresh process on a fresh state folder (durability `barrier`), in threads, with a no-op.
Memory is the growth of the resident set, in bytes for each task, from an engine that is open and has run one
task: the highest ever (which includes reading and checking the definition) and the highest while running.
Limit: 400 bytes for an item of a fan-out. The steps of the chain are in the definition, 100,000 of them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ACTIONS = Path(__file__).parent / "actions"
LIMIT_BYTES = 400


def definition(shape: str, tasks: int) -> dict[str, Any]:
    """A workflow of this shape as its file has it."""
    call = {"module": "bench_actions", "action": "noop"}
    if shape == "chain":
        steps = [{"name": "s0", **call}]
        steps += [{"name": f"s{i}", **call, "dependencies": [f"s{i - 1}"]} for i in range(1, tasks)]
    else:
        step = {"name": "items", **call, "action": "take", "parameters": {"x": "${item}"}}
        steps = [{**step, "foreach": f"${{range({tasks})}}"}]
    return {"codomyrmex": 1, "name": shape, "defaults": {"isolation": "thread"}, "steps": steps}


def resident_bytes(field: str) -> int:
    """A line of /proc/self/status: VmRSS now, VmHWM the highest since it was last cleared."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise LookupError(field)


def run_case(file: str, tasks: int) -> dict[str, Any]:
    """Runs the definition in `file` in this process; figures in seconds and bytes for each task."""
    from codomyrmex import OrchestrationEngine

    warm = {"codomyrmex": 1, "name": "warm", "steps": [
        {"name": "a", "module": "bench_actions", "action": "noop", "isolation": "thread"}
    ]}  # fmt: skip
    with (
        tempfile.TemporaryDirectory() as state,
        OrchestrationEngine(state=f"{state}/state", root=ACTIONS) as engine,
    ):
        engine.execute_workflow(warm)
        before = resident_bytes("VmRSS")
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        began = time.perf_counter()
        execution = engine.start_workflow(file)
        started = time.perf_counter()
        running = 0
        while not execution.wait(0.05):
            running = max(running, resident_bytes("VmRSS"))
        ended = time.perf_counter()
        highest = resident_bytes("VmHWM")
        counts = execution.view.tasks
    return {
        "status": execution.status.value,
        "completed": counts.completed,
        "start_s": round(started - began, 3),
        "run_s": round(ended - started, 3),
        "us_per_task": round((ended - started) / tasks * 1e6, 1),
        "bytes_highest": round((highest - before) / tasks),
        "bytes_running": round((running - before) / tasks),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(run_case(options.case, options.tasks)))
        return 0
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for shape in ("chain", "fan-out"):
            file = Path(folder, f"{shape}.json")
            file.write_text(json.dumps(definition(shape, options.tasks)), encoding="utf-8")
            command = [sys.executable, __file__, "--case", str(file), "--tasks", str(options.tasks)]
            ended = subprocess.run(command, check=True, capture_output=True, text=True)
            figures[shape] = json.loads(ended.stdout)
    fine = all(found["status"] == "completed" for found in figures.values())
    fine = fine and figures["fan-out"]["bytes_highest"] <= LIMIT_BYTES
    if options.json:
        print(json.dumps({"tasks": options.tasks, **figures}))
    else:
        for shape, found in figures.items():
            print(
                f"{shape} of {options.tasks}: " + ", ".join(f"{key} {value}" for key, value in found.items())
            )
        print(f"limit: {LIMIT_BYTES} bytes an item of the fan-out: {'kept' if fine else 'BROKEN'}")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
