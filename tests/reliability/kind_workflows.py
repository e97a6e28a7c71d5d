"""Workflows for kills: a large fan-out, children of children, a saga, questions, handlers.

Every action appends `begin` and `end` lines to one file (O_APPEND, one write a line) with the run, the task and the
number of its attempt, in threads as in processes. Results follow from parameters alone, so that an undisturbed
run and a disturbed one can be compared value by value.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

STEPS = '''
import os, time
from codomyrmex import current_task

def note(folder, word):
    task = current_task()
    file = os.open(os.path.join(folder, "effects.txt"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, f"{word} {task.run_id} {task.task} {task.attempt}\\n".encode())
    os.close(file)

def work(folder, value=0, pause_s=0.0, fails=False, fails_first=False):
    note(folder, "begin")
    if pause_s:
        time.sleep(pause_s)
    if fails:
        raise ValueError("as it was told to")
    if fails_first:
        refuse_first_run(folder, str(value))
    note(folder, "end")
    return {"value": value * 2 + 1 if isinstance(value, int) else value}

def refuse_first_run(folder, name):
    """Fails in the first run that comes with this name, in every attempt of it."""
    own = current_task().run_id
    try:
        file = os.open(os.path.join(folder, f"{name}.first"), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(file, own.encode())
        os.close(file)
        first = own
    except FileExistsError:
        with open(os.path.join(folder, f"{name}.first")) as file:
            first = file.read()
    if first in ("", own):
        raise ValueError("the first run fails")
'''
ISOLATIONS = ("thread", "process")


def write_files(folder: Path, documents: Mapping[str, Mapping[str, Any]]) -> Path:
    """Writes workflows, the first of which is the one to run, and their actions; returns its file."""
    folder.mkdir(parents=True)
    (folder / "kind_steps.py").write_text(STEPS)
    for name, document in documents.items():
        (folder / f"{name}.json").write_text(json.dumps({"codomyrmex": 1, "name": name, **document}))
    return folder / f"{next(iter(documents))}.json"


def work(
    folder: Path, name: str, *, after: tuple[str, ...] = (), isolation: str = "thread", **more: Any
) -> dict[str, Any]:
    """A step that calls `work`; what is no parameter of it is a key of the step."""
    given: dict[str, Any] = {
        key: more.pop(key) for key in ("value", "pause_s", "fails", "fails_first") if key in more
    }
    call = {"call": "kind_steps:work", "with": {"folder": str(folder), **given}, "isolation": isolation}
    return {"name": name, **call, "dependencies": list(after), **more}


# -- the workflows ---------------------------------------------------------------------------------


def fan_out(folder: Path, items: int) -> dict[str, dict[str, Any]]:
    """Two fan-outs, one in threads and one in worker processes, over what another step returns."""
    steps = [work(folder, "first", value=items // 2)]
    for number, isolation in enumerate(ISOLATIONS):
        over = "${range(steps.first.output.value)}"
        steps.append(work(folder, f"items{number}", value="${item}", isolation=isolation, foreach=over))
    steps.append(work(folder, "last", after=("items0", "items1"), value="${len(steps.items1.output)}"))
    return {"fan_out": {"steps": steps, "outputs": {"last": "${steps.last.output.value}"}}}


def children(folder: Path, items: int) -> dict[str, dict[str, Any]]:
    """A fan-out of runs, each of which starts one more; the first run of an odd one fails and is tried again."""
    grandchild = {
        "parameters": {"n": {"type": "integer"}},
        "steps": [
            work(folder, "a", value="${parameters.n}", pause_s=0.005),
            work(folder, "b", value="${steps.a.output.value}", isolation="process"),
        ],
        "outputs": {"sum": "${steps.b.output.value}"},
    }
    child = {
        "parameters": {"n": {"type": "integer"}},
        "steps": [
            {"name": "deep", "workflow": "./grandchild.json", "parameters": {"n": "${parameters.n}"}},
            work(folder, "after", value="${steps.deep.output.sum}", pause_s=0.003),
            {"name": "rest", "sleep": 0.03},
        ],
        "outputs": {"value": "${steps.after.output.value}"},
    }
    flaky = {
        "steps": [work(folder, "once", value="flaky", fails_first=True)],
        "outputs": {"o": "${steps.once.output.value}"},
    }
    each = {
        "name": "each",
        "workflow": "./child.json",
        "parameters": {"n": "${item}"},
        "foreach": f"${{range({items})}}",
    }
    again = {
        "name": "again",
        "workflow": "./flaky.json",
        "retry": {"max_attempts": 3, "delay_s": 0.05, "jitter": False},
    }
    last = work(folder, "last", value="${len(steps.each.output)}", after=("again",))
    outputs = {"each": "${steps.each.output}", "again": "${steps.again.output}"}
    root = {"steps": [each, again, last], "outputs": outputs}
    return {"root": root, "child": child, "grandchild": grandchild, "flaky": flaky}


def saga(folder: Path, steps: int, items: int) -> dict[str, dict[str, Any]]:
    """Compensated steps and items, and then one that fails for good."""
    undo = {"retry": {"max_attempts": 9, "on": ["crashed", "WorkerCrashed"]}}
    made: list[dict[str, Any]] = []
    for number in range(steps):
        isolation = ISOLATIONS[number % 2]
        given = {"folder": str(folder), "value": f"${{output.value + {number}}}", "pause_s": 0.004}
        compensate = {"call": "kind_steps:work", "with": given, "isolation": isolation, **undo}
        after = (f"s{number - 2}",) if number >= 2 else ()
        made.append(
            work(folder, f"s{number}", value=number, isolation=isolation, compensate=compensate, after=after)
        )
    given = {"folder": str(folder), "value": "${item}", "pause_s": 0.004}
    compensate = {"call": "kind_steps:work", "with": given, **undo}
    over = f"${{range({items})}}"
    made.append(work(folder, "items", value="${item}", foreach=over, compensate=compensate))
    bad = (f"s{steps - 1}", f"s{steps - 2}", "items")
    made.append(work(folder, "bad", fails=True, after=bad))
    return {"saga": {"steps": made}}


def questions(folder: Path, items: int) -> dict[str, dict[str, Any]]:
    """Approvals and signals, alone and in fan-outs, and steps that use the answers."""
    form = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    each = {"message": "item ${item}?", "form": form, "who": ["alice", "bob"]}
    over = f"${{range({items})}}"
    steps = [
        {"name": "ask", "approval": {"message": "begin?", "who": ["alice", "bob"]}},
        {"name": "each", "approval": each, "foreach": over, "dependencies": ["ask"]},
        {"name": "ready", "wait_for": {"signal": "ready"}},
        {"name": "parts", "wait_for": {"signal": "part-${item}"}, "foreach": over, "dependencies": ["ask"]},
        work(folder, "used", value="${item.data.n}", foreach="${steps.each.output}", isolation="process"),
        work(folder, "last", value="${steps.ready.output.n}", after=("used", "parts")),
        {"name": "late", "wait_for": {"signal": "ready"}, "dependencies": ["last"]},
    ]
    outputs = {
        "last": "${steps.last.output.value}",
        "late": "${steps.late.output.n}",
        "parts": "${steps.parts.output}",
    }
    return {"questions": {"steps": steps, "outputs": outputs}}


def handlers(folder: Path, items: int) -> dict[str, dict[str, Any]]:
    """Main fails at once; then four steps of `on_failure` and some of `finally`, a child run and a sleep among them."""
    child = {
        "steps": [work(folder, "tidied", value=3, pause_s=0.02)],
        "outputs": {"v": "${steps.tidied.output.value}"},
    }
    on_failure = [
        work(folder, "tell", value="${steps.good.output.value}", pause_s=0.02),
        work(folder, "mail", isolation="process", value="${steps.tell.output.value}", pause_s=0.02),
        work(folder, "page", value=7, pause_s=0.03),
        {"name": "calm", "sleep": 0.05, "dependencies": ["page"]},
    ]
    finally_ = [
        work(folder, "sweep", value="${item}", foreach=f"${{range({items})}}", pause_s=0.01),
        {"name": "child", "workflow": "./tidy.json", "dependencies": ["sweep"]},
        {"name": "rest", "sleep": 0.05},
        work(
            folder,
            "close",
            isolation="process",
            value="${steps.child.output.v}",
            after=("rest",),
            pause_s=0.02,
        ),
    ]
    main = [work(folder, "good", value=1), work(folder, "bad", fails=True, after=("good",))]
    return {"handlers": {"steps": main, "on_failure": on_failure, "finally": finally_}, "tidy": child}
