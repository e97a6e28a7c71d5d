"""What it costs to decide which ready task goes next: 10 to 1,000 shapes of requests, up to 100,000 tasks waiting.

    python benchmarks/dispatch.py [--shapes N] [--rounds N] [--json]

The queues are those of the engine (`admission.py`), with nothing around them. All tasks are ready and ask for CPU,
memory and some for disk, in 100 different ways; 64 run at once until nothing fits, then one ends and the next is
looked for. Counted is CPU time per task: every look (the ones that find nothing too), taking, claiming and giving
back. Limits: 30 us a task, and at most 1.3 times as much with 100,000 tasks as with 1,000. Beside that, without
limits of their own, as many tasks in 10 and in 1,000 different ways, 1,000 runs of one step each that come and go,
and four sessions that share the machine.
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
RUNS = 1_000
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


def dispatch_all(ready: int, shapes: int, sessions: int = 1) -> float:
    """Microseconds of CPU for each of `ready` tasks, from a full queue to an empty one."""
    chance = random.Random(20261122)
    queues = Admission(cpu_milli=MACHINE[CPU], max_workers=SLOTS, share=MachineShare.whole(MACHINE))
    lanes = []
    for session in range(sessions):
        party = queues.party(f"session-{session}" if session else "")
        requests = shapes_of(chance, shapes // sessions)
        lanes += [queues.lane(Run(session), request=each, quick=False, party=party) for each in requests]
    for number in range(ready):
        queues.offer(chance.choice(lanes), chance.randrange(4), number, number + 1)
    gc.collect()
    began_s = time.process_time()
    _empty(queues, ready, chance)
    return (time.process_time() - began_s) / ready * 1e6


def dispatch_runs(runs: int, shapes: int) -> float:
    """Microseconds of CPU for each of so many runs of one step, from its lane to the end of it."""
    chance = random.Random(20261122)
    queues = Admission(cpu_milli=MACHINE[CPU], max_workers=SLOTS, share=MachineShare.whole(MACHINE))
    requests = shapes_of(chance, shapes)
    gc.collect()
    began_s = time.process_time()
    for number in range(runs):
        queues.offer(queues.lane(Run(number), request=chance.choice(requests), quick=False), 1, 0, 1)
    _empty(queues, runs, chance)
    for number in range(runs):
        queues.forget(number)
    return (time.process_time() - began_s) / runs * 1e6


def _empty(queues: Admission, ready: int, chance: random.Random) -> None:
    """Lets all that waits begin, and one after the other end."""
    held: list[tuple[Lane, Claim]] = []
    done = 0
    while done < ready:
        queues.mark(done)
        while (lane := queues.next_lane()) is not None:
            queues.take(lane, 1)
            held.append((lane, queues.claim(lane)))
            done += 1
        if done < ready:
            queues.release(*held.pop(chance.randrange(len(held))))


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
    beside = {
        f"{READY[-1]} ready, 10 shapes": dispatch_all(READY[-1], 10),
        f"{READY[-1]} ready, 1000 shapes": dispatch_all(READY[-1], 1000),
        f"{READY[-1]} ready, {options.shapes} shapes of 4 sessions": dispatch_all(
            READY[-1], options.shapes, 4
        ),
        f"{RUNS} runs of one step, {options.shapes} shapes": dispatch_runs(RUNS, options.shapes),
    }
    broken = max(medians.values()) > LIMIT_US or growth > LIMIT_GROWTH
    if options.json:
        print(json.dumps({"shapes": options.shapes, "us": figures, "growth": growth, "beside": beside}))
        return int(broken)
    for ready, found in figures.items():
        print(
            f"{ready:>7} ready  {medians[ready]:5.1f} us each  ({' '.join(f'{each:.1f}' for each in found)})"
        )
    for what, each_us in beside.items():
        print(f"{each_us:5.1f} us each  {what}")
    print(f"growth {growth:.2f}{'  BROKEN' if broken else ''}")
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
