"""Do runs end when their plans say? Recorded scientific workflows, planned and then really run.

    python benchmarks/wfinstances.py [FILE...] [--all] [--time-scale S] [--cpus N] [--rounds N] [--json]

Each recorded task is a step that holds one CPU for its recorded runtime times the scale, in a thread of a durable
engine (`barrier`) that has N CPUs. The first run only teaches: what its steps took is learned, as that of any run is.
Then each round plans the workflow twice, with what was learned and with the recorded times, and runs it. Told is the
median of the rounds in percent of each plan, and the round that was furthest off.

Also told, in microseconds: how much later than it should a task wakes up (`late`: part of what is learned, not of the
recorded times), and what the engine adds beyond its tasks for each task that stands in a row (`between`).
Limit: six graphs end within 15 % of both plans. Files are WfFormat 1.5 (https://github.com/wfcommons/WfInstances),
by default six of `../shared/data/wfinstances` beside the project; with `--all` every one that is there.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data" / "wfinstances"
SIX = (
    "1000genome-chameleon-2ch-100k-001.json",
    "cycles-chameleon-1l-1c-12p-001.json.gz",
    "epigenomics-chameleon-hep-2seq-50k-001.json.gz",
    "mag-dirt02-001.json.gz",
    "rnaseq-dirt02-001.json.gz",
    "soykb-chameleon-10fastq-20ch-001.json.gz",
)
LIMIT_PERCENT = 15.0
CPUS = 8
"""More than the machine may have: the steps only wait."""
STORED_WITHIN_S = 15.0


@dataclass(kw_only=True)
class Round:
    """One run, and what its two plans said; seconds."""

    learned_s: float
    recorded_s: float
    run_s: float
    late_s: float
    """How much longer than recorded its tasks took, the median of them."""


def workflow_of(path: Path, time_scale: float) -> dict[str, Any]:
    """The recording in a file as a workflow whose steps hold one CPU each."""
    from codomyrmex.logistics.orchestration.project.workflow_import.wfformat import Recording, read_wfformat

    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    tree = read_wfformat(text, Recording(time_scale=time_scale, max_cpu=1, file=path.name)).tree
    return dict(tree)


def recorded_s(tree: dict[str, Any]) -> dict[str, float]:
    """Scaled seconds by step."""
    return {step["name"]: step["with"]["seconds"] for step in tree["steps"]}


def rounds_of(tree: dict[str, Any], *, cpus: int, rounds: int) -> Iterator[Round]:
    """Teaches an engine, then plans and runs, again and again."""
    from codomyrmex import OrchestrationEngine

    durations = recorded_s(tree)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CODOMYRMEX_HOST_DIR"] = f"{folder}/host"  # nobody else has a share of these CPUs
        with OrchestrationEngine(state=f"{folder}/state", root=folder, cpu_count=cpus) as engine:
            run(engine, tree)
            for _ in range(rounds):
                learned = learned_plan(engine, tree)
                recorded = engine.workflows.plan_workflow(tree, durations=durations, simulations=0)
                yield Round(learned_s=learned.duration_s, recorded_s=recorded.duration_s, **run(engine, tree))


def learned_plan(engine: Any, tree: dict[str, Any]) -> Any:
    """The plan from what was learned, as soon as that is stored: an engine does it soon after a run's end."""
    until_s = time.monotonic() + STORED_WITHIN_S
    while True:
        plan = engine.workflows.plan_workflow(tree, simulations=0)
        guesses = [task.task for task in plan.tasks if not task.known]
        if not guesses:
            return plan
        if time.monotonic() > until_s:
            raise SystemExit(f"nothing was learned of {len(guesses)} steps, {guesses[0]} among them")
        time.sleep(0.05)


def run(engine: Any, tree: dict[str, Any]) -> dict[str, float]:
    """One run: how long it took, and how much longer than recorded its tasks did."""
    execution = engine.execute_workflow(tree)
    if not execution.success:
        raise SystemExit(f"{tree['name']}: {execution.error}")
    durations = recorded_s(tree)
    late = [(task.duration_s or 0.0) - durations[name] for name, task in execution.tasks.items()]
    return {"run_s": execution.duration, "late_s": statistics.median(late)}


def figures_of(tree: dict[str, Any], rounds: list[Round], cpus: int) -> dict[str, Any]:
    """What is told of one graph; seconds, percent and microseconds."""
    count = len(tree["steps"])
    in_a_row = max(levels_of(tree), -(-count // cpus))
    found: dict[str, Any] = {"tasks": count, "in_a_row": in_a_row}
    for name in ("learned_s", "recorded_s", "run_s"):
        found[name] = statistics.median(getattr(each, name) for each in rounds)
    for plan in ("learned", "recorded"):
        off = [(each.run_s / getattr(each, f"{plan}_s") - 1) * 100 for each in rounds]
        found[f"{plan}_percent"] = statistics.median(off)
        found[f"{plan}_furthest_percent"] = max(off, key=abs)
    found["late_us"] = statistics.median(each.late_s for each in rounds) * 1e6
    found["between_us"] = statistics.median(each.run_s - each.learned_s for each in rounds) / in_a_row * 1e6
    found["kept"] = all(abs(found[f"{plan}_percent"]) <= LIMIT_PERCENT for plan in ("learned", "recorded"))
    return found


def levels_of(tree: dict[str, Any]) -> int:
    """How many tasks the graph puts in a row at most."""
    from codomyrmex.logistics.orchestration.project.workflow_dag import WorkflowDAG

    steps = [{"name": step["name"], "dependencies": step.get("needs", [])} for step in tree["steps"]]
    return len(WorkflowDAG(steps).get_execution_order())


def show_head(options: argparse.Namespace) -> None:
    print(
        f"{options.cpus} CPUs, time scale {options.time_scale:g}, {options.rounds} rounds; plans and run in seconds, "
        "the run in % of each plan (furthest off), microseconds a task"
    )
    print(
        f"{'':37} {'':5} {'learned':>8} {'recorded':>8} {'run':>8} {'of learned':>14} {'of recorded':>14}"
        f" {'late':>6} {'between':>7}"
    )


def show_line(name: str, found: dict[str, Any]) -> None:
    print(
        f"{name:37.37} {found['tasks']:5} {found['learned_s']:8.3f} {found['recorded_s']:8.3f}"
        f" {found['run_s']:8.3f} {found['learned_percent']:6.1f} ({found['learned_furthest_percent']:5.1f})"
        f" {found['recorded_percent']:6.1f} ({found['recorded_furthest_percent']:5.1f})"
        f" {found['late_us']:6.0f} {found['between_us']:7.0f}{'' if found['kept'] else '  off'}",
        flush=True,
    )


def chosen(options: argparse.Namespace) -> list[Path]:
    """The files to run, and nothing where those that are meant by default are not there."""
    if options.files:
        return [Path(each) for each in options.files]
    if options.all:
        return sorted(FOLDER.glob("*.json*"), key=lambda path: path.stat().st_size)
    return [FOLDER / name for name in SIX if (FOLDER / name).exists()]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", metavar="FILE")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--time-scale", type=float, default=0.001)
    parser.add_argument("--cpus", type=int, default=CPUS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    paths = chosen(options)
    if not paths:
        print(
            f"nothing to measure: no recorded workflows in {FOLDER}; name files of your own", file=sys.stderr
        )
        return 0
    if not options.json:
        show_head(options)
    figures = {}
    for path in paths:
        tree = workflow_of(path, options.time_scale)
        rounds = list(rounds_of(tree, cpus=options.cpus, rounds=options.rounds))
        name = path.name.removesuffix(".gz").removesuffix(".json")
        figures[name] = figures_of(tree, rounds, options.cpus)
        if not options.json:
            show_line(name, figures[name])
    kept = sum(found["kept"] for found in figures.values())
    if options.json:
        print(
            json.dumps(
                {"cpus": options.cpus, "time_scale": options.time_scale, "kept": kept, "graphs": figures}
            )
        )
    else:
        print(f"{kept} of {len(figures)} graphs ended within {LIMIT_PERCENT:g} % of both plans")
    return 0 if kept >= min(len(SIX), len(figures)) else 1


if __name__ == "__main__":
    sys.exit(main())
