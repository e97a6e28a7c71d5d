"""`kill -9` of engines at random points: the result is that of an undisturbed run, and nothing is done twice
that was recorded once."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
from crash_course import CrashCourse, Outcome
from mixed_workflow import MixedWorkflow, write_mixed_workflow
from run_audit import effect_faults, read_effects, repeats

AUDIT = Path(__file__).parents[2] / "examples" / "stdlib_audit" / "workflow.yaml"
MOST_KILLS_OF_ONE_RUN = 4


@dataclass(frozen=True, kw_only=True)
class Form:
    """How many kills, on how much work."""

    kills: int
    steps: int
    files: int
    """Of the audit; 0 means all."""


SHORT = pytest.param(Form(kills=5, steps=30, files=45), id="short")
FULL = pytest.param(Form(kills=50, steps=300, files=0), id="full", marks=pytest.mark.reliability)


@dataclass
class Totals:
    """The figures of several runs."""

    runs: int = 0
    kills: int = 0
    early: int = 0
    workers: int = 0
    repeats: int = 0
    tasks: int = 0

    def add(self, outcome: Outcome) -> None:
        self.runs += 1
        self.kills += outcome.kills
        self.early += outcome.early
        self.workers += outcome.workers
        self.repeats += outcome.repeats
        self.tasks += outcome.tasks

    def __str__(self) -> str:
        return (
            f"{self.kills} kills of an engine whose run was unfinished, {self.early} before it was stored, "
            f"{self.workers} of workers, in {self.runs} runs of {self.tasks} tasks in all: "
            f"results that differ 0, recorded tasks begun again 0, processes left 0, "
            f"unrecorded attempts repeated {self.repeats}"
        )


def crash_mixed(folder: Path, form: Form, chance: Random, victims: tuple[str, ...]) -> Totals:
    """Runs the mixed workflow again and again until so many kills have been delivered."""
    undisturbed = perform_mixed(folder / "undisturbed", form, chance, victims, kills=0)
    totals = Totals()
    while totals.kills < form.kills:
        kills = min(chance.randint(1, MOST_KILLS_OF_ONE_RUN), form.kills - totals.kills)
        place = folder / f"run{totals.runs}"
        outcome = perform_mixed(place, form, chance, victims, kills=kills, duration_s=undisturbed.duration_s)
        assert outcome.results == undisturbed.results
        assert outcome.outputs == undisturbed.outputs
        totals.add(outcome)
    return totals


def perform_mixed(
    folder: Path, form: Form, chance: Random, victims: tuple[str, ...], *, kills: int, duration_s: float = 0.0
) -> Outcome:
    """One run; every contradiction fails the test."""
    mixed = write_mixed_workflow(folder, steps=form.steps, interpreter=shlex.quote(sys.executable))
    course = CrashCourse(
        state=folder / "state",
        root=folder,
        file=mixed.file,
        chance=chance,
        victims=victims,
        tasks=form.steps,
        duration_s=duration_s,
    )
    outcome = course.perform(kills)
    effects = read_effects(mixed.effects)
    outcome.faults += effect_faults(effects, outcome.events, mixed.parents)
    assert outcome.faults == []
    assert repeats(effects) <= outcome.repeats  # an attempt may be killed before its first line
    assert_right(mixed, outcome)
    return outcome


def assert_right(mixed: MixedWorkflow, outcome: Outcome) -> None:
    """Every value is what it must be by the graph alone."""
    got = {
        name: int(result["stdout"]) if "stdout" in result else result["value"]
        for name, result in outcome.results.items()
    }
    assert got == mixed.values


@pytest.mark.parametrize("form", [SHORT, FULL])
def test_a_workflow_of_shell_and_python_steps_survives_kills_of_its_engine(
    form: Form, tmp_path: Path, chance: Random, record: Callable[..., None]
) -> None:
    totals = crash_mixed(tmp_path, form, chance, ("engine",))
    record(f"`kill -9` of the engine, {form.steps} shell and Python steps", totals.kills, str(totals))


@pytest.mark.parametrize("form", [SHORT, FULL])
def test_it_survives_kills_of_its_workers_and_then_of_its_engine(
    form: Form, tmp_path: Path, chance: Random, record: Callable[..., None]
) -> None:
    totals = crash_mixed(tmp_path, form, chance, ("supervisor", "runner"))
    record(f"`kill -9` of the workers, then of the engine, {form.steps} steps", totals.kills, str(totals))


@pytest.mark.parametrize("form", [SHORT, FULL])
def test_the_audit_gives_the_same_reports_byte_for_byte(
    form: Form, tmp_path: Path, chance: Random, record: Callable[..., None]
) -> None:
    wanted, undisturbed = audit(tmp_path / "undisturbed", form, chance, kills=0)
    totals = Totals()
    while totals.kills < form.kills:
        kills = min(chance.randint(1, MOST_KILLS_OF_ONE_RUN), form.kills - totals.kills)
        found, outcome = audit(
            tmp_path / f"run{totals.runs}", form, chance, kills=kills, duration_s=undisturbed.duration_s
        )
        assert found == wanted
        totals.add(outcome)
    what = "the whole standard library" if not form.files else f"{form.files} files"
    record(f"`kill -9` of the engine, audit of {what}", totals.kills, str(totals))


def audit(
    folder: Path, form: Form, chance: Random, *, kills: int, duration_s: float = 0.0
) -> tuple[dict[str, bytes], Outcome]:
    """The two reports of one audit."""
    reports = folder / "reports"
    course = CrashCourse(
        state=folder / "state",
        root=folder,
        file=AUDIT,
        parameters=(f"output_dir={reports}", f"limit={form.files}"),
        chance=chance,
        tasks=590 if not form.files else form.files // 3 + 9,
        duration_s=duration_s,
    )
    folder.mkdir()
    outcome = course.perform(kills)
    assert outcome.faults == []
    return {path.name: path.read_bytes() for path in sorted(reports.iterdir())}, outcome
