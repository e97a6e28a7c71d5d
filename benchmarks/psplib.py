"""How far the schedules of our admission are above the best known ones, on the projects of PSPLIB.

    python benchmarks/psplib.py [FOLDER BEST_CSV] [--count N] [--optimise SECONDS] [--json]

Each `.sm` file of the folder becomes a workflow, one step for a job and four named resources, and is planned with the
true durations by the code that decides in every run (`workflow_planner`: no schedule is made here). Beside it stands
FIFO, which is the same code in mode `parallel`: jobs go in the order in which they become ready. A checker that
shares no code with the engine looks at every schedule; one that is broken, or shorter than is possible, is an error.

The gap is the mean of makespan / best known - 1. `--count` takes so many files, spread over the folder. `--optimise`
gives the solver so many seconds for each file, on top of that. Without a folder: j30, j60 and j120 of
`../shared/data/psplib` beside the project, and the limits that we promise for these.
`--json` prints `{instances, feasible, mean_gap_percent}`, of whole sets one for each set.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schedules.project_file import BrokenProject, Known, read_known, read_project
from schedules.project_workflow import Times, optimised, planned, times_of
from schedules.schedule_check import faults_of

from codomyrmex.logistics.orchestration.project.states import OrchestrationMode

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data" / "psplib"
LIMITS = {"j30": 4.6, "j60": 5.0, "j120": 10.6}
"""Percent above best known, of whole sets,"""
OPTIMISED_LIMITS = {"j30": 1.0, "j60": 2.0, "j120": 5.0}
"""and where the solver had 5 s for each file."""
OPTIMISED_S = 5.0


@dataclass(kw_only=True)
class Gaps:
    """What one way to schedule made of a set."""

    percent: list[float] = field(default_factory=list)
    feasible: int = 0
    proved: int = 0
    faults: list[str] = field(default_factory=list)

    def add(self, name: str, faults: list[str], makespan: int, known: Known | None) -> None:
        """Counts one schedule; the gap only of what is feasible and has a best known one."""
        if known is not None and makespan < known.lower_bound:
            faults = [*faults, f"takes {makespan}, and nothing takes less than {known.lower_bound}"]
        self.faults += [f"{name}: {fault}" for fault in faults]
        if faults:
            return
        self.feasible += 1
        if known is not None:
            self.percent.append((makespan / known.best - 1) * 100)

    @property
    def mean(self) -> float | None:
        return statistics.fmean(self.percent) if self.percent else None


def spread(paths: list[Path], count: int | None) -> list[Path]:
    """So many of the files, evenly spread over the folder; always the same ones."""
    if count is None or count >= len(paths):
        return paths
    return [paths[index * len(paths) // count] for index in range(count)]


def measured(
    paths: list[Path], known: dict[str, Known], *, fifo: bool, optimise_s: float | None
) -> dict[str, Gaps]:
    """Every file scheduled in every way that was asked for."""
    found = {"admission": Gaps()}
    if fifo:
        found["fifo"] = Gaps()
    if optimise_s is not None:
        found["optimised"] = Gaps()
    for path in paths:
        project = read_project(path)
        plan = planned(project)
        plans = {"admission": plan}
        if fifo:
            plans["fifo"] = planned(project, OrchestrationMode.PARALLEL)
        if optimise_s is not None:
            plans["optimised"] = optimised(project, plan, optimise_s)
        for way, each in plans.items():
            times: Times = times_of(project, each)
            faults = faults_of(project, times.starts, times.ends)
            found[way].add(path.stem, faults, times.makespan, known.get(path.stem))
            found[way].proved += each.optimal
    return found


def figures_of(found: dict[str, Gaps], count: int, optimise_s: float | None) -> dict[str, Any]:
    """What `--json` prints of a set."""
    admission = found["admission"]
    figures: dict[str, Any] = {
        "instances": count,
        "feasible": admission.feasible,
        "mean_gap_percent": _rounded(admission.mean),
    }
    if optimise_s is not None:
        better = found["optimised"]
        figures["optimised"] = {
            "seconds": optimise_s,
            "feasible": better.feasible,
            "proved": better.proved,
            "mean_gap_percent": _rounded(better.mean),
        }
    return figures


def _rounded(percent: float | None) -> float | None:
    return None if percent is None else round(percent, 4)


def broken_limits(name: str, found: dict[str, Gaps], options: argparse.Namespace) -> list[str]:
    """The ways that are further above the best than we promise of this set."""
    broken = []
    if options.count is None and (found["admission"].mean or 0) > LIMITS[name]:
        broken.append("admission")
    optimised_s = options.optimise or 0
    if optimised_s >= OPTIMISED_S and (found["optimised"].mean or 0) > OPTIMISED_LIMITS[name]:
        broken.append("optimised")
    return broken


def show_line(name: str, count: int, found: dict[str, Gaps], broken: list[str]) -> None:
    parts = []
    for way, gaps in found.items():
        mean = "   no best known" if gaps.mean is None else f"{gaps.mean:6.2f} %"
        proved = f" ({gaps.proved} proved the shortest)" if way == "optimised" else ""
        mark = "  BROKEN" if way in broken else ""
        parts.append(f"{way} {mean}{proved}{mark}")
    feasible = min(gaps.feasible for gaps in found.values())
    print(f"{name:6} {count:4} instances, {feasible:4} feasible   {'   '.join(parts)}", flush=True)


def sets_of(options: argparse.Namespace) -> dict[str, tuple[list[Path], dict[str, Known]]]:
    """The files and the best known of each set that is to be measured."""
    if options.folder is not None:
        chosen = {options.folder.name: (options.folder, options.best)}
    else:
        chosen = {name: (FOLDER / name, FOLDER / f"{name}-best.csv") for name in LIMITS}
    found = {}
    for name, (folder, best) in chosen.items():
        paths = spread(sorted(folder.glob("*.sm")), options.count)
        if not paths:
            raise BrokenProject(f"there is no .sm file in {folder}")
        found[name] = (paths, read_known(best))
    return found


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, metavar="FOLDER")
    parser.add_argument("best", nargs="?", type=Path, metavar="BEST_CSV")
    parser.add_argument("--count", type=int)
    parser.add_argument("--optimise", type=float, metavar="SECONDS")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if (options.folder is None) != (options.best is None):
        parser.error("a folder of .sm files goes with a table of the best known schedules")
    if options.count is not None and options.count < 1:
        parser.error("--count takes 1 or more")
    return options


def main() -> int:
    options = options_of()
    if options.folder is None and not FOLDER.exists():
        print(f"nothing to measure: there is no {FOLDER}; name a folder and its table", file=sys.stderr)
        return 0
    try:
        sets = sets_of(options)
        whole = options.folder is None
        failed = False
        figures = {}
        for name, (paths, known) in sets.items():
            found = measured(paths, known, fifo=not options.json, optimise_s=options.optimise)
            broken = broken_limits(name, found, options) if whole else []
            faults = [fault for gaps in found.values() for fault in gaps.faults]
            failed |= bool(faults or broken)
            for fault in faults:
                print(fault, file=sys.stderr)
            figures[name] = figures_of(found, len(paths), options.optimise)
            if not options.json:
                show_line(name, len(paths), found, broken)
    except (BrokenProject, OSError) as error:
        print(f"psplib: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(figures if whole else next(iter(figures.values()))))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
