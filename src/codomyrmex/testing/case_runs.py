"""The cases of a file, run and compared: each in memory and in virtual time, as `run_workflow` does.

Layer: testing. A case that cannot run (a parameter of the wrong type, a stub for a step that is not there,
a question that nobody answers) has failed like one that ended otherwise than expected; the others go on.
"""

from __future__ import annotations

import builtins
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codomyrmex.exceptions import CodomyrmexError, ValidationError
from codomyrmex.testing.case_file import SUFFIXES, Case, CaseFile
from codomyrmex.testing.finished_run import FinishedRun, run_workflow
from codomyrmex.workspace import find_workspace

WORKFLOW_SUFFIXES = (".yaml", ".yml", ".json", ".toml")
SHOWN_AT_MOST = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """How a case ended; `problems` is empty when it was as expected."""

    file: str
    case: str
    status: str | None
    """How the run ended; None where there was none."""
    problems: tuple[str, ...]
    duration_s: float

    @property
    def passed(self) -> bool:
        """Whether all was as expected."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "file": self.file,
            "case": self.case,
            "passed": self.passed,
            "status": self.status,
            "problems": list(self.problems),
            "duration_s": round(self.duration_s, 3),
        }


def run_cases(tests: CaseFile) -> Iterator[CaseResult]:
    """Runs the cases of a file one after the other."""
    for case in tests.cases:
        began_s = time.monotonic()
        status, problems = _tried(tests, case)
        lasted_s = time.monotonic() - began_s
        yield CaseResult(
            file=tests.shown, case=case.name, status=status, problems=tuple(problems), duration_s=lasted_s
        )


def workflow_of(tests: CaseFile) -> Path | str:
    """The workflow file that a file of tests is about, or the name of the workflow."""
    folder = tests.file.parent
    if tests.workflow is not None:
        path = folder / tests.workflow
        return path if path.is_file() else tests.workflow
    stem = next(
        tests.file.name.removesuffix(suffix) for suffix in SUFFIXES if tests.file.name.endswith(suffix)
    )
    for suffix in WORKFLOW_SUFFIXES:
        if (folder / f"{stem}{suffix}").is_file():
            return folder / f"{stem}{suffix}"
    return stem


def _tried(tests: CaseFile, case: Case) -> tuple[str | None, list[str]]:
    stubs = {step: _behaviour(stub) for step, stub in case.stubs.items()}
    try:
        root = find_workspace(file=tests.file).root
        run = run_workflow(workflow_of(tests), case.parameters, stubs, case.until, root=root)
    except ValidationError as error:
        return None, [str(fault) for fault in error.faults]
    except CodomyrmexError as error:
        return None, [f"{error.message}; {error.hint}" if error.hint else error.message]
    return run.status.value, list(_differences(run, case.expect))


def _behaviour(stub: Mapping[str, Any]) -> Any:
    """What `run_workflow` takes for a stub that was written in a file."""
    if "attempts" in stub:
        return [_behaviour(each) for each in stub["attempts"]]
    if "error" in stub:
        return _error(stub["error"])
    if "approved" in stub:
        return dict(stub)
    if "signal" in stub:
        return stub["signal"]
    value = stub["output"]
    return lambda **_parameters: value  # a list would be read as one behaviour per attempt


def _error(text: str) -> Exception:
    """`ConnectionError: gone` is that exception; a name that Python does not have is one of that name."""
    name, colon, message = text.partition(":")
    name = name.strip()
    if not name.isidentifier():
        return RuntimeError(text)
    known = getattr(builtins, name, None)
    if isinstance(known, type) and issubclass(known, Exception):
        return known(message.strip()) if colon else known()
    if not colon:
        return RuntimeError(text)
    return type(name, (Exception,), {})(message.strip())  # type: ignore[no-any-return]


def _differences(run: FinishedRun, expect: Mapping[str, Any]) -> Iterator[str]:
    wanted = expect.get("status", "failed" if "error" in expect else "completed")
    if run.status.value != wanted:
        why = f": {run.error}" if run.error else ""
        yield f"the run is {run.status.value}, not {wanted}{why}"
    if "error" in expect and expect["error"] not in (run.error or ""):
        yield f"the error is {run.error!r}, without {expect['error']!r}"
    statuses = run.statuses()
    for task, status in expect.get("steps", {}).items():
        found = statuses.get(task, "not there")
        if found != status:
            yield f"{task} is {found}, not {status}"
    yield from _different_values("output", run.outputs or {}, expect.get("outputs", {}))
    yield from _different_values("result of", run.results, expect.get("results", {}))
    for step, count in expect.get("attempts", {}).items():
        found_count = run.attempts(step) if step in run.tasks else 0
        if found_count != count:
            yield f"{step} had {found_count} attempts, not {count}"
    order = expect.get("order", [])
    began = [task for task in run.order if task in order]
    if began != order:
        yield f"the order was {', '.join(began) or 'empty'}"


def _different_values(what: str, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    for name, value in wanted.items():
        if name not in found:
            yield f"there is no {what} {name}"
        elif found[name] != value:
            yield f"the {what} {name} is {_shown(found[name])}, not {_shown(value)}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN_AT_MOST else f"{text[:SHOWN_AT_MOST]}..."
