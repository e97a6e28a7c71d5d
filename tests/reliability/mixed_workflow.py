"""A workflow of shell steps and Python process steps that tells on itself.

Every step appends `begin` and `end` lines with its attempt's token to one file (O_APPEND, one write a line),
and its value follows from those of its parents, so that the result of the whole can be computed without
running anything. Some steps leave a daemon: it is in a session of its own, ignores SIGTERM, and appends
`alive` for as long as it lives.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

MODULUS = 1_000_003
DAEMON_EVERY = 25
LAYOUT_SEED = 20

STEPS = """
import os, subprocess, sys, time

def note(word):
    file = os.open(os.environ["EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, f"{word} {os.environ['CODOMYRMEX_ATTEMPT']}\\n".encode())
    os.close(file)

def mix(inputs, number, duration_s, daemon=False):
    note("begin")
    if daemon:
        script = os.path.join(os.path.dirname(__file__), "leave_daemon.py")
        subprocess.run([sys.executable, "-S", script], check=True)
    time.sleep(duration_s)
    value = (sum(int(given) for given in inputs) * 31 + number) % 1_000_003
    note("end")
    return {"value": value}
"""

LEAVE_DAEMON = """
import os, signal, sys, time

signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
for stream in (0, 1, 2):
    os.dup2(os.open(os.devnull, os.O_RDWR), stream)
line = f"alive {os.environ['CODOMYRMEX_ATTEMPT']}\\n".encode()
file = os.open(os.environ["EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
for _ in range(30_000):
    os.write(file, line)
    time.sleep(0.02)
"""


@dataclass(frozen=True, kw_only=True)
class MixedWorkflow:
    """Where its files stand, its graph, and the value that each step must have."""

    folder: Path
    parents: dict[str, list[str]]
    values: dict[str, int]

    @property
    def file(self) -> Path:
        return self.folder / "workflow.json"

    @property
    def effects(self) -> Path:
        return self.folder / "effects.txt"


def write_mixed_workflow(folder: Path, *, steps: int, interpreter: str) -> MixedWorkflow:
    """Writes the workflow and its actions below `folder`; the same `steps` always give the same graph."""
    folder.mkdir(parents=True)
    chance = Random(LAYOUT_SEED)
    names = [f"s{number}" for number in range(steps)]
    made = MixedWorkflow(folder=folder, parents={}, values={})
    documents: list[dict[str, Any]] = []
    for number, name in enumerate(names):
        near = names[max(0, number - 12) : number]
        parents = chance.sample(near, min(len(near), chance.randint(1, 3))) if number >= 4 else []
        made.parents[name] = parents
        made.values[name] = (sum(made.values[parent] for parent in parents) * 31 + number) % MODULUS
        daemon = number % DAEMON_EVERY == 13
        duration_s = 0.15 if daemon else chance.choice((0.0, 0.0, 0.005, 0.02))
        inputs = [_reference(names, parent) for parent in parents]
        documents.append(
            {"name": name, "env": {"EFFECTS": str(made.effects)}}
            | _action(number, inputs, duration_s, daemon=daemon, interpreter=interpreter)
        )
    outputs = {name: _reference(names, name) for name in names[-5:]}
    document = {"codomyrmex": 1, "name": "mixed", "steps": documents, "outputs": outputs}
    document["defaults"] = {"retry": {"max_attempts": 9, "on": ["crashed", "WorkerCrashed"]}}
    (folder / "mixed_steps.py").write_text(STEPS)
    (folder / "leave_daemon.py").write_text(LEAVE_DAEMON)
    made.file.write_text(json.dumps(document))
    return made


def _is_shell(number: int) -> bool:
    return number % 2 == 0


def _reference(names: list[str], name: str) -> str:
    field = "stdout" if _is_shell(names.index(name)) else "value"
    return f"${{steps.{name}.output.{field}}}"


def _action(
    number: int, inputs: list[str], duration_s: float, *, daemon: bool, interpreter: str
) -> dict[str, Any]:
    if not _is_shell(number):
        given = {"inputs": inputs, "number": number, "duration_s": duration_s, "daemon": daemon}
        return {"call": "mixed_steps:mix", "with": given, "isolation": "process"}
    lines = ["echo begin $CODOMYRMEX_ATTEMPT >> $EFFECTS"]
    if daemon:
        lines.append(f"{interpreter} -S leave_daemon.py")
    if duration_s:
        lines.append(f"sleep {duration_s}")
    lines += [f"p{place}={given}" for place, given in enumerate(inputs)]
    lines += [
        f"value=$(( (0 {' '.join(f'+ p{place}' for place in range(len(inputs)))}) * 31 + {number} ))",
        "echo end $CODOMYRMEX_ATTEMPT >> $EFFECTS",
        f"echo $(( value % {MODULUS} ))",
    ]
    return {"run": "\n".join(lines)}
