"""What it costs to decide which ready task goes next: 100 shapes of requests, 1,000 to 100,000 tasks waiting.

    python benchmarks/dispatch.py [--shapes N] [--rounds N] [--json]

The queues are those of the engine (`admission.py`), with nothing around them. All tasks are ready and ask for CPU,
memory and some for disk, in 100 different ways; 64 run at once until nothing fits, then one ends and the next is
looked for. Counted is CPU time per task: every look (the ones that find nothing too), taking, claiming and giving
back. Limits: 30 us a task, and at most 1.3 times as much with 100,000 tasks as with 1,000.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
import sys
import time
from dataclasses import dataclass

from codomyrmex.logistics.orchestration.project.admission import Admission, Claim, Lane
from codomyrmex.logistics.orchestration.project.machine_share import MachineShare
from codomyrmex.logistics.orchestration.project.resource_request import CPU, DISK, MEMORY, Request

MACHINE = {CPU: 64_000, MEMORY: 2**38, DISK: 2**40}
SLOTS = 64
READY = (1_000, 10_000, 100_000)
LIMIT_US = 30.0
LIMIT_GROWTH = 1.3


@dataclass(frozen=True)
class Run:
    """All that a queue wants to know of a run."""

    number: int = 1


def shapes_of(chance: random.Random, count: int) -> list[Request]:
    """Different requests; the same ones for the same seed."""
    return [
        Request(
            cpu_milli=chance.choice((100, 500, 1000, 2000, 4000)) + number,
            memory_bytes=chance.randrange(1, 64) * 2**28,
            disk_bytes=chance.choice((0, 2**30)),
        )
        for number in range(count)
    ]


def dispatch_all(ready: int, shapes: int) -> float:
    """Microseconds of CPU for each of `ready` tasks, from a full queue to an empty one."""
    chance = random.Random(20261122)
    queues = Admission(cpu_milli=MACHINE[CPU], max_workers=SLOTS, share=MachineShare.whole(MACHINE))
    lanes = [queues.lane(Run(), request=each, quick=False) for each in shapes_of(chance, shapes)]
    for number in range(ready):
        queues.offer(chance.choice(lanes), chance.randrange(4), number, number + 1)
    held: list[tuple[Lane, Claim]] = []
    done = 0
    gc.collect()
    began_s = time.process_time()
    while done < ready:
        queues.mark(1)
        while (lane := queues.next_lane()) is not None:
            queues.take(lane, 1)
            held.append((lane, queues.claim(lane)))
            done += 1
        if done < ready:
            queues.release(*held.pop(chance.randrange(len(held))))
    return (time.process_time() - began_s) / ready * 1e6


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = {ready: [dispatch_all(ready, options.shapes) for _ in range(options.rounds)] for ready in READY}
    medians = {ready: statistics.median(found) for ready, found in figures.items()}
    growth = medians[READY[-1]] / medians[READY[0]]
    broken = max(medians.values()) > LIMIT_US or growth > LIMIT_GROWTH
    if options.json:
        print(json.dumps({"shapes": options.shapes, "us": figures, "growth": growth}))
        return int(broken)
    for ready, found in figures.items():
        print(
            f"{ready:>7} ready  {medians[ready]:5.1f} us each  ({' '.join(f'{each:.1f}' for each in found)})"
        )
    print(f"growth {growth:.2f}{'  BROKEN' if broken else ''}")
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
