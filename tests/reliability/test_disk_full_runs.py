"""The disk of the state fills up during a run: the engine waits for space, or stops and says why; nothing
that was recorded is lost, and the run reaches its right end."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
from crash_course import SCRIPT
from mixed_workflow import MixedWorkflow, write_mixed_workflow
from run_audit import (
    effect_faults,
    engine_tokens,
    journal_faults,
    left_over,
    opened,
    read_effects,
    repeats,
    started_again,
)

from waiting import wait_until

STEPS = 60
NO_SPACE = "no space left to write the state"
REFUSED = "a commit was refused and will be tried again"
FORMS = [pytest.param(1, id="short"), pytest.param(10, id="full", marks=pytest.mark.reliability)]


@dataclass
class Disk:
    """A small file system, and the file that fills it."""

    folder: Path

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def fill(self) -> None:
        """Takes all the space that is left."""
        with (self.folder / "ballast").open("ab", buffering=0) as ballast:
            for size in (65536, 4096, 1):
                try:
                    while ballast.write(bytes(size)):
                        pass
                except OSError:
                    continue

    def free(self) -> None:
        (self.folder / "ballast").unlink()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[], Disk]]:
    """Makes disks of 2 MiB; the test is skipped where nothing may be mounted."""
    mounted: list[Path] = []

    def mount() -> Disk:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
            pytest.skip("no file system may be mounted here")
        mounted.append(folder)
        return Disk(folder)

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


class Engine:
    """`engine_script.py` on a state, and what it says."""

    def __init__(self, verb: str, state: Path, mixed: MixedWorkflow, said: Path, **environment: str) -> None:
        self._said = said
        command = [sys.executable, str(SCRIPT), verb, str(state), str(mixed.folder), str(mixed.file)]
        with said.open("w") as output:
            self.process = subprocess.Popen(
                command, cwd=mixed.folder, env={**os.environ, **environment}, stdout=output, stderr=output
            )

    @property
    def said(self) -> str:
        return self._said.read_text()

    def end(self, within_s: float = 90) -> int:
        """Waits for its end; the exit code."""
        try:
            return self.process.wait(within_s)
        finally:
            self.process.kill()
            self.process.wait()


def begun(tmp_path: Path, number: int) -> MixedWorkflow:
    return write_mixed_workflow(
        tmp_path / f"mixed{number}", steps=STEPS, interpreter=shlex.quote(sys.executable)
    )


def ends(mixed: MixedWorkflow) -> int:
    return sum(effect.word == "end" for effect in read_effects(mixed.effects))


def assert_right_end(state: Path, mixed: MixedWorkflow, *, most_repeats: int) -> None:
    """The run has completed with every value as it must be, and nothing was done twice that was recorded."""
    with opened(state) as (database, reader):
        run = reader.run(reader.find("@last"))
        events = list(reader.events(run.execution_id))
        results = dict(reader.results(run.execution_id))
        tokens = engine_tokens(database)
    assert (run.status, run.error) == ("completed", None)
    got = {
        name: int(given["stdout"]) if "stdout" in given else given["value"] for name, given in results.items()
    }
    assert got == mixed.values
    effects = read_effects(mixed.effects)
    assert journal_faults(events) + effect_faults(effects, events, mixed.parents) + left_over(tokens) == []
    assert repeats(effects) <= started_again(events) <= most_repeats


@pytest.mark.may_skip("not everybody may mount a file system")
@pytest.mark.parametrize("rounds", FORMS)
def test_the_run_goes_on_when_space_returns(
    rounds: int, small_disk: Callable[[], Disk], tmp_path: Path, chance: Random, record: Callable[..., None]
) -> None:
    for number in range(rounds):
        disk, mixed = small_disk(), begun(tmp_path, number)
        engine = Engine("run", disk.state, mixed, tmp_path / f"said{number}")
        moment = chance.randint(1, STEPS // 3)  # later, the log may have all the room it needs
        wait_until(lambda: ends(mixed) >= moment, timeout_s=30)  # noqa: B023
        disk.fill()
        try:
            wait_until(lambda: REFUSED in engine.said or engine.process.poll() is not None, timeout_s=20)  # noqa: B023
        finally:
            disk.free()
        code = engine.end()
        assert code == 0, engine.said
        assert REFUSED in engine.said, f"it had room enough after {moment} steps"
        assert_right_end(disk.state, mixed, most_repeats=0)
    record(
        "the disk is full for a while during a run",
        rounds,
        f"{rounds} runs completed by themselves, repeats 0",
    )


@pytest.mark.may_skip("not everybody may mount a file system")
@pytest.mark.parametrize("rounds", FORMS)
def test_an_engine_without_space_stops_with_a_clear_error_and_resume_ends_the_run(
    rounds: int, small_disk: Callable[[], Disk], tmp_path: Path, chance: Random, record: Callable[..., None]
) -> None:
    for number in range(rounds):
        disk, mixed = small_disk(), begun(tmp_path, number)
        engine = Engine("run", disk.state, mixed, tmp_path / f"said{number}", PATIENCE_S="0.5")
        moment = chance.randint(1, STEPS // 3)  # later, the log may have all the room it needs
        wait_until(lambda: ends(mixed) >= moment, timeout_s=30)  # noqa: B023
        disk.fill()
        code = engine.end(within_s=15)  # less than the 20 s after which an engine stops that cannot renew
        assert code != 0
        assert NO_SPACE in engine.said
        late = Engine("resume", disk.state, mixed, tmp_path / f"late{number}")
        late_code = late.end()
        assert late_code != 0
        assert NO_SPACE in late.said
        disk.free()
        again = Engine("resume", disk.state, mixed, tmp_path / f"again{number}")
        assert again.end() == 0, again.said
        assert_right_end(disk.state, mixed, most_repeats=len(os.sched_getaffinity(0)))
    record(
        "the disk stays full", rounds, f"{rounds} engines stopped naming the cause; resumed to the right end"
    )


@pytest.mark.parametrize("rounds", FORMS)
def test_a_file_that_may_not_grow_stops_the_engine_and_resume_ends_the_run(
    rounds: int, tmp_path: Path, chance: Random, record: Callable[..., None]
) -> None:
    for number in range(rounds):
        mixed, state = begun(tmp_path, number), tmp_path / f"state{number}"
        largest = str(chance.randint(90, 130) * 1024)
        engine = Engine(
            "run", state, mixed, tmp_path / f"said{number}", PATIENCE_S="0.5", LARGEST_FILE_BYTES=largest
        )
        code = engine.end()
        assert code != 0, f"{largest} bytes were enough"
        assert NO_SPACE in engine.said
        with opened(state) as (_database, reader):
            stored = bool(reader.runs()[0])
        again = Engine("resume" if stored else "run", state, mixed, tmp_path / f"again{number}")
        assert again.end() == 0, again.said
        assert_right_end(state, mixed, most_repeats=len(os.sched_getaffinity(0)))
    figures = f"{rounds} engines stopped naming the cause; resumed to the right end"
    record("a limit on the size of files (RLIMIT_FSIZE)", rounds, figures)
