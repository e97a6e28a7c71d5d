"""How long a durable fan-out takes, what an item costs in memory, and how long the write lock is held meanwhile.

    python benchmarks/fan_out.py [--items N] [--many N] [--repeats N] [--case WORD] [--json]

Every item has its own recorded state; the action does nothing. Each case runs in a fresh process on a fresh state
folder (durability `barrier`), two slots. The clock begins when the definition is submitted and ends with the run.
Limits: 10,000 items in 5 s in threads and in 10 s in worker processes; 400 bytes an item; and no case, also none in
which 100,000 items that have not begun end at once, may hold the write lock of the state for more than 50 ms.

The lock is timed where it is taken and let go of, so checkpoints and syncs that are made under it count. Every
other process waits that long at most. The figure of a case is the longest of its repeats.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ACTIONS = Path(__file__).parent / "actions"
SLOTS = 2
LIMIT_BYTES = 400
LIMIT_LOCK_MS = 50.0
LIMITS_S = {"threads": 5.0, "processes": 10.0}
SMALL = ("threads", "processes")
"""These have a time limit, and as few items as it is for."""
MANY = (
    "many",
    "many-processes",
    "large",
    "sleeps",
    "cancel",
    "kill",
    "fail-fast",
    "item-stop",
    "timeout",
    "resume",
)
MEASURED_IN_BYTES = ("many", "many-processes")


@dataclass(kw_only=True)
class Case:
    """A workflow, how it is disturbed, and how it must end."""

    document: dict[str, Any]
    disturb: str | None = None
    """`cancel`, `kill` or `pause` (and resume), once some items have completed."""
    status: str = "completed"


@dataclass(kw_only=True)
class LockTimes:
    """Every time that the write lock was held, in milliseconds, with the rows that changed meanwhile."""

    held: list[tuple[float, int, str]] = field(default_factory=list)

    def watch(self) -> None:
        """Times every writer of this process from here on."""
        from codomyrmex.logistics.storage.writer import Writer

        take, let_go, times = Writer._take, Writer._let_go, self.held
        began: dict[int, tuple[float, int]] = {}

        def timed_take(writer: Writer) -> None:
            take(writer)
            began[id(writer)] = (time.perf_counter(), writer.connection().total_changes())

        def timed_let_go(writer: Writer) -> None:
            found = began.pop(id(writer), None) if writer._owner else None
            if found is not None:
                rows = writer.connection().total_changes() - found[1]
                kind = "synced" if writer._is_full else "not synced"
                times.append(((time.perf_counter() - found[0]) * 1e3, rows, kind))
            let_go(writer)

        Writer._take = timed_take  # type: ignore[method-assign,assignment]
        Writer._let_go = timed_let_go  # type: ignore[method-assign,assignment]

    def longest(self, count: int = 3) -> list[dict[str, Any]]:
        """The longest few."""
        found = sorted(self.held, reverse=True)[:count]
        return [{"ms": round(ms, 1), "rows": rows, "kind": kind} for ms, rows, kind in found]


# -- the cases -------------------------------------------------------------------------------------


def fan_out(items: int, *, isolation: str = "thread", **more: Any) -> dict[str, Any]:
    step = {"name": "items", "module": "bench_actions", "action": "take", "parameters": {"x": "${item}"}}
    return _document({**step, "foreach": f"${{range({items})}}", **more}, isolation=isolation)


def _document(*steps: dict[str, Any], isolation: Any = "thread", **more: Any) -> dict[str, Any]:
    return {"codomyrmex": 1, "name": "fan_out", "isolation": isolation, "steps": list(steps), **more}


def _large(items: int) -> dict[str, Any]:
    """Items of 1 KB that another step returns, each of which is a parameter."""
    made = {
        "name": "made",
        "module": "bench_actions",
        "action": "texts",
        "parameters": {"count": items, "length": 1000},
    }
    step = {"name": "items", "module": "bench_actions", "action": "length", "parameters": {"text": "${item}"}}
    return _document(made, {**step, "foreach": "${steps.made.output}"})


def _failing(items: int, *, fail_fast: bool = False, **more: Any) -> dict[str, Any]:
    """The hundredth item fails when all the others stand in line."""
    step: dict[str, Any] = {
        "name": "items",
        "module": "bench_actions",
        "action": "fail_at",
        "parameters": {"x": "${item}", "at": 100},
    }
    step |= {"foreach": f"${{range({items})}}", **more}
    return _document(step, **({"fail_fast": True} if fail_fast else {}))


def _waiting(items: int) -> dict[str, Any]:
    """Steps that hold no slot, all open at once."""
    return _document({"name": "items", "sleep": 0.0, "foreach": f"${{range({items})}}"})


def case_of(word: str, items: int) -> Case:
    """The case of this name."""
    slow: Any = {"action": "pause", "parameters": {"seconds": 0.001}}
    cases = {
        "threads": lambda: Case(document=fan_out(items)),
        "processes": lambda: Case(document=fan_out(items, isolation="process")),
        "many": lambda: Case(document=fan_out(items)),
        "many-processes": lambda: Case(document=fan_out(items, isolation="process")),
        "large": lambda: Case(document=_large(items)),
        "sleeps": lambda: Case(document=_waiting(items)),
        "cancel": lambda: Case(document=fan_out(items, **slow), disturb="cancel", status="cancelled"),
        "kill": lambda: Case(document=fan_out(items, **slow), disturb="kill", status="cancelled"),
        "resume": lambda: Case(document=fan_out(items), disturb="pause"),
        "fail-fast": lambda: Case(document=_failing(items, fail_fast=True), status="failed"),
        "item-stop": lambda: Case(document=_failing(items, on_item_failure="stop"), status="failed"),
        "timeout": lambda: Case(document={**fan_out(items, **slow), "timeout_s": 1.0}, status="failed"),
    }
    return cases[word]()


# -- one run ---------------------------------------------------------------------------------------


def resident_bytes(name: str) -> int:
    """A line of /proc/self/status: VmRSS now, VmHWM the highest since it was last cleared."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise LookupError(name)


def run_case(word: str, items: int) -> dict[str, Any]:
    """One run in this process."""
    times = LockTimes()
    times.watch()
    from codomyrmex import OrchestrationEngine

    case = case_of(word, items)
    isolation = case.document["isolation"]
    warm = _document(
        {"name": "warm", "module": "bench_actions", "action": "noop", "foreach": [1, 2]}, isolation=isolation
    )
    with (
        tempfile.TemporaryDirectory(prefix=".fan-out-", dir=Path.cwd()) as folder,
        OrchestrationEngine(state=f"{folder}/state", root=ACTIONS, cpu_count=SLOTS) as engine,
    ):
        engine.execute_workflow(warm)
        times.held.clear()
        before = resident_bytes("VmRSS")
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        began = time.perf_counter()
        execution = engine.start_workflow(case.document)
        if case.disturb:
            while engine.progress(execution.execution_id).tasks.completed < 100:
                time.sleep(0.005)
            disturb(engine, execution.execution_id, case.disturb)
        asked = time.perf_counter()
        assert engine.wait(execution.execution_id, 600)
        ended = time.perf_counter()
        highest = resident_bytes("VmHWM")
        status, counts = execution.status.value, execution.view.tasks
        assert status == case.status, (status, execution.error)
        assert counts.completed + counts.cancelled + counts.failed == counts.total, counts
    return {
        "status": status,
        "completed": counts.completed,
        "run_s": round(ended - began, 3),
        "end_s": round(ended - asked, 3),
        "bytes": round((highest - before) / items),
        "transactions": len(times.held),
        "longest_locks": times.longest(),
    }


def disturb(engine: Any, run_id: str, how: str) -> None:
    if how == "pause":
        engine.pause(run_id)
        while engine.reader.run(run_id).status != "paused":
            time.sleep(0.005)
        engine.resume(run_id)
    else:
        engine.cancel(run_id, kill=how == "kill")


# -- all of them -----------------------------------------------------------------------------------


def measure(word: str, items: int) -> dict[str, Any]:
    """One run in a process of its own."""
    command = [sys.executable, __file__, "--run", word, "--many", str(items)]
    ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def broken_limits(word: str, found: list[dict[str, Any]]) -> list[str]:
    """What a case promises and did not keep in all its repeats."""
    said = []
    limit_s = LIMITS_S.get(word)
    worst = max(each["longest_locks"][0]["ms"] for each in found)
    if limit_s is not None and max(each["run_s"] for each in found) > limit_s:
        said.append(f"over {limit_s:g} s")
    if word in MEASURED_IN_BYTES and max(each["bytes"] for each in found) > LIMIT_BYTES:
        said.append(f"over {LIMIT_BYTES} bytes an item")
    if worst > LIMIT_LOCK_MS:
        said.append(f"the lock held over {LIMIT_LOCK_MS:g} ms")
    return said


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--many", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--case", action="append", choices=[*SMALL, *MANY])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        print(json.dumps(run_case(options.run, options.many)))
        return 0
    broken = False
    figures: dict[str, list[dict[str, Any]]] = {}
    for word in options.case or [*SMALL, *MANY]:
        items = options.items if word in SMALL else options.many
        figures[word] = [measure(word, items) for _ in range(options.repeats)]
        said = broken_limits(word, figures[word])
        broken |= bool(said)
        if not options.json:
            show(word, items, figures[word], said)
    if options.json:
        print(json.dumps({"items": options.items, "many": options.many, "cases": figures}))
    return int(broken)


def show(word: str, items: int, found: list[dict[str, Any]], said: list[str]) -> None:
    seconds = " ".join(f"{each['run_s']:.2f}" for each in found)
    locks = max((each["longest_locks"] for each in found), key=lambda longest: longest[0]["ms"])
    longest = ", ".join(f"{each['ms']:.1f} ms ({each['rows']} rows, {each['kind']})" for each in locks)
    size = max(each["bytes"] for each in found)
    mark = f"  BROKEN: {'; '.join(said)}" if said else ""
    print(
        f"{word:15}{items:7} items  {seconds} s  {size} bytes an item  longest locks {longest}{mark}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
