"""How long it takes to be ready: imports, the command, an engine, a worker. Each in fresh processes.

    python benchmarks/cold_start.py [--rounds N] [--json]

Milliseconds, best and median of the rounds, the cases alternated. The bare interpreter is a case of its own;
`import` is what importing costs beyond it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

ENGINE = """
import sys
from codomyrmex import OrchestrationEngine, Workflow
def noop(): return 1
workflow = Workflow("noop")
workflow.step(noop)
with OrchestrationEngine(state=sys.argv[1]) as engine:
    assert engine.execute_workflow(workflow).success
"""
WORKER = """
import sys, time
from codomyrmex.logistics.orchestration.project.executors.process import ProcessExecutor
executor = ProcessExecutor(spool_dir=sys.argv[1], engine_token="bench", max_workers=1)
began = time.perf_counter()
executor.describe([("os.path", "join")])
print((time.perf_counter() - began) * 1000)
executor.close()
"""
LIMITS_MS = {"import": 60, "--version": 100, "engine, one task, close": 200, "worker ready": 120}


def timed(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - began) * 1000


def one_round() -> dict[str, float]:
    """One measurement of every case, in milliseconds."""
    python = sys.executable
    with tempfile.TemporaryDirectory() as state, tempfile.TemporaryDirectory() as spool:
        bare = timed([python, "-c", "pass"])
        worker = subprocess.run([python, "-c", WORKER, spool], check=True, capture_output=True, text=True)
        return {
            "bare interpreter": bare,
            "import": timed([python, "-c", "import codomyrmex.logistics.orchestration.project"]) - bare,
            "import of the engine": timed([python, "-c", "from codomyrmex import OrchestrationEngine"])
            - bare,
            "--version": timed([python, "-m", "codomyrmex", "--version"]),
            "engine, one task, close": timed([python, "-c", ENGINE, os.path.join(state, "state")]),
            "worker ready": float(worker.stdout),
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    one_round()  # compiles what is not compiled yet
    rounds = [one_round() for _ in range(options.rounds)]
    figures = {
        name: {"best": min(r[name] for r in rounds), "median": statistics.median(r[name] for r in rounds)}
        for name in rounds[0]
    }
    if options.json:
        print(json.dumps(figures))
        return 0
    print(f"{'milliseconds':26} {'best':>8} {'median':>8} {'limit':>8}")
    for name, found in figures.items():
        print(f"{name:26} {found['best']:8.1f} {found['median']:8.1f} {LIMITS_MS.get(name, ''):>8}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
