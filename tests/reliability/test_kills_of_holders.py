"""`kill -9` of whoever holds resources: engines, managers, workers. All comes back, to those who wait, and no
sooner than nothing of the dead uses it any more."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest
from run_audit import left_over
from shared_host import Effect, Host, SharedHost, named, percentile, quota, settled

from codomyrmex.logistics.orchestration.project.executors.worker.tree import descendants, parents
from waiting import wait_until

MACHINE = {"cpu": "4", "gpu": "2", "memory": str(8 * 2**30)}
BACK_WITHIN_S = 1.0
LIMIT_S = 3 * BACK_WITHIN_S
"""A promised latency is asserted at three times its figure; the figures themselves are in the row."""
RESOURCES = (
    named("mutex", 1),
    named("seats", 4),
    named("parts", 0.5),
    quota("api", 50, 1.0, 20),
)
EVERYTHING = {"cpu": 4, "gpu": 2, "memory": "7GiB", "mutex": 1, "seats": 4}
NAMED_ONLY = {"cpu": 0, "mutex": 1, "seats": 4}
MACHINE_ONLY = {"cpu": 4, "gpu": 2, "memory": "7GiB"}
"""What is asked for by who survives: it fits only when all is back."""
BY_HAND = {"cpu": 1, "gpu": 1, "memory": "1GiB", "seats": 2}


@dataclass(frozen=True, kw_only=True)
class Form:
    """How many kills of each sort."""

    same_state: int = 1
    other_state: int = 1
    nobody: int = 1
    workers: int = 1


SHORT = pytest.param(Form(), id="short")
FULL = pytest.param(
    Form(same_state=120, other_state=50, nobody=40, workers=90), id="full", marks=pytest.mark.reliability
)
under_kills = pytest.mark.parametrize("form", [SHORT, FULL])


@pytest.fixture
def host(tmp_path: Path) -> Iterator[SharedHost]:
    found = SharedHost(tmp_path, MACHINE)
    yield found
    found.end()


@dataclass
class Kills:
    """The figures of one course."""

    kinds: dict[str, int] = field(default_factory=dict)
    back_s: list[float] = field(default_factory=list)
    """From each kill to the instant at which no row of the dead was to be seen."""
    taken_s: list[float] = field(default_factory=list)
    """From each kill to the begin of the work that waited for what the dead held."""

    def count(self, kind: str) -> None:
        self.kinds[kind] = self.kinds.get(kind, 0) + 1

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.kinds.items()))
        text = (
            f"{kinds}; back within {_ms(max(self.back_s))} at most, {_ms(percentile(self.back_s, 0.99))} "
            f"(99 %), {_ms(percentile(self.back_s, 0.5))} (half)"
        )
        if self.taken_s:
            most, half = max(self.taken_s), percentile(self.taken_s, 0.5)
            text += f"; at work again after {_ms(most)} at most, {_ms(half)} (half)"
        return text


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


@dataclass
class Course:
    """Holders come, are killed, and are looked after."""

    host: SharedHost
    chance: Random
    kills: Kills = field(default_factory=Kills)
    number: int = 0
    runs: list[str] = field(default_factory=list)
    """Those of the dead."""

    @property
    def release(self) -> Path:
        """The file for which those wait that were to be killed: from then on they end by themselves."""
        return self.host.folder / "release"

    def holding_engine(self, state: str, *, wait: bool = True) -> Host:
        """An engine in the middle of work, and often with claims by hand too."""
        self.number += 1
        victim = self.host.open(state)
        if self.chance.random() < 0.5:
            assert victim.tell(take={"seats": 1, "cpu": 0.5, "memory": "512MiB"}) == 3
        self.runs.append(victim.tell(start=self._holding_workflow()))
        if wait:
            self._wait_for_begins(f"v{self.number}/", 4)
        return victim

    def _holding_workflow(self) -> str:
        name, until = f"v{self.number}", str(self.release)

        def step(what: str, isolation: str, resources: dict[str, Any], **given: Any) -> dict[str, Any]:
            return {
                "name": what,
                "isolation": isolation,
                "resources": resources,
                "with": {"name": f"{name}/{what}", "until": until, **given},
            }

        steps = [
            step("mutex", "process", {"cpu": 0.5, "mutex": 1}, locks=["mutex"], child=self._child()),
            step("seats", "thread", {"cpu": 0.5, "seats": 2}),
            step("device", "process", {"cpu": 0.5, "gpu": 1, "memory": "1GiB"}, gpu=1, child="stubborn"),
            step("part", "process", {"cpu": 0.5, "gpu": 0.5}, gpu=0.5),
        ]
        if self.chance.random() < 0.5:  # somebody who commits all the time, so that kills hit commits
            churn = step("churn", "thread", {"cpu": 0.1, "parts": 0.1, "api": 1}, seconds=0.003)
            churn["with"].pop("until")
            steps.append({**churn, "foreach": "${range(40)}"})
        return self.host.workflow(name, steps)

    def _child(self) -> str | None:
        return self.chance.choice((None, "plain", "stubborn"))

    def wanting(self, survivor: Host, wants: dict[str, Any]) -> tuple[str, str]:
        """Lets somebody ask for what is held; the name of the effect, and the run."""
        self.number += 1
        name = f"s{self.number}/want"
        locks = ["mutex"] if "mutex" in wants else []
        given = {"name": name, "gpu": wants.get("gpu", 0), "locks": locks, "seconds": 0.002}
        step = {"name": "want", "isolation": "process", "resources": wants, "with": given}
        return name, survivor.tell(start=self.host.workflow(f"s{self.number}", [step]))

    def pause(self) -> None:
        """So that kills come at any moment."""
        time.sleep(self.chance.choice((0.0, self.chance.uniform(0.0, 0.1))))

    def strike(self, victims: list[Host], *, ledger_only: bool = False) -> float:
        """Kills them and waits until no row of theirs is there; what still runs of them then is a fault.

        Every other time their supervisors die before them, so that nobody is left who ends what is below.
        """
        if len(self.kills.back_s) % 2 == 0:
            for victim in victims:
                kill_supervisors(victim)
        tokens = [token for token in map(self.host.token, victims) if token]
        killed_s = min([victim.kill() for victim in victims])

        self.wait_until_gone(victims, ledger_only=ledger_only)
        self.kills.back_s.append(time.monotonic() - killed_s)
        assert left_over(tokens) == []
        for victim in victims:
            victim.bury()
        return killed_s

    def wait_until_gone(self, victims: list[Host], *, ledger_only: bool = False) -> None:
        """Until no row of theirs is there; at no moment is more held than there is."""
        states = sorted({victim.state.name for victim in victims})

        def gone() -> bool:
            assert self.host.overdrawn(*states) == []
            return not any(self.host.held_by(victim, ledger_only=ledger_only) for victim in victims)

        wait_until(gone, timeout_s=20, what="what the dead held is back")

    def effect(self, name: str, word: str = "begin") -> list[Effect]:
        return [effect for effect in self.host.effects() if effect.name == name and effect.word == word]

    def note_taken(self, name: str, killed_s: float, *, held: bool = True) -> None:
        """Waits until somebody has begun with what the dead held, where it is sure that they held it."""
        begun = wait_until(lambda: self.effect(name), timeout_s=20, what=f"the begin of {name}")
        if held:
            assert begun[0].at_ns / 1e9 > killed_s
            self.kills.taken_s.append(begun[0].at_ns / 1e9 - killed_s)

    def _wait_for_begins(self, prefix: str, count: int) -> None:
        def begun() -> bool:
            found = {e.name for e in self.host.effects() if e.word == "begin" and e.name.startswith(prefix)}
            return len(found - {f"{prefix}churn"}) >= count

        wait_until(begun, timeout_s=20, what=f"{count} begins of {prefix}")

    def finish(self, heir: Host, *leaving: Host) -> None:
        """What the dead left undone is taken over and ends; then everybody leaves and nothing is left."""
        self.release.touch()
        heir.tell(recover=True)
        assert set(settled(self.host, heir.state.name, self.runs, 300)) <= {"completed"}
        for each in (heir, *leaving):
            each.leave()
        assert [effect for effect in self.host.effects() if effect.word not in ("begin", "end")] == []
        assert self.host.left(*{each.state.name for each in (heir, *leaving)}) == {}


def kill_supervisors(engine: Host) -> None:
    """Kills those of an engine that must not tidy up after them: it is stopped first."""
    engine.process.send_signal(signal.SIGSTOP)
    for pid, parent in parents().items():
        if parent == engine.pid:
            os.kill(pid, signal.SIGKILL)


@pytest.mark.timeout(3600)
@under_kills
def test_what_a_killed_holder_had_is_back_while_an_engine_of_its_state_lives(
    form: Form, host: SharedHost, chance: Random, record: Callable[..., None]
) -> None:
    host.add("state", *RESOURCES)
    course = Course(host, chance)
    survivor = host.open("state")
    for _ in range(form.same_state):
        luck = chance.random()
        if luck < 0.2:
            course.kills.count("managers")
            victim = host.open("state", "manager")
            assert victim.tell(take=BY_HAND | {"mutex": 1}) == 5
        else:
            course.kills.count("engines")
            victim = course.holding_engine("state", wait=luck < 0.8)
        name, run_id = course.wanting(survivor, chance.choice((EVERYTHING, NAMED_ONLY)))
        course.pause()
        killed_s = course.strike([victim])
        course.note_taken(name, killed_s, held=luck < 0.8)
        assert settled(host, "state", [run_id], 20) == ["completed"]
    course.finish(survivor)
    assert max(course.kills.back_s) < LIMIT_S
    record("`kill -9` of holders while an engine of their state lives", form.same_state, str(course.kills))


@pytest.mark.timeout(3600)
@under_kills
def test_what_a_killed_holder_had_of_the_machine_is_back_while_anybody_on_the_host_lives(
    form: Form, host: SharedHost, chance: Random, record: Callable[..., None]
) -> None:
    host.add("state", *RESOURCES)
    course = Course(host, chance)
    survivor = host.open("another")
    for _ in range(form.other_state):
        course.kills.count("engines of another project")
        victim = course.holding_engine("state")
        name, run_id = course.wanting(survivor, MACHINE_ONLY)
        course.pause()
        killed_s = course.strike([victim], ledger_only=True)
        course.note_taken(name, killed_s)
        assert settled(host, "another", [run_id], 20) == ["completed"]
        assert host.held_by(victim) > 0  # locks are of its state, which nobody has open
    course.finish(host.open("state"), survivor)
    assert max(course.kills.back_s) < LIMIT_S
    record(
        "`kill -9` of holders while only another project's engine lives", form.other_state, str(course.kills)
    )


@pytest.mark.timeout(3600)
@under_kills
def test_with_nobody_left_alive_everything_is_back_at_the_next_opening(
    form: Form, host: SharedHost, chance: Random, record: Callable[..., None]
) -> None:
    host.add("state", *RESOURCES)
    course = Course(host, chance)
    delivered, opened_s = 0, []
    while delivered < form.nobody:
        victims = [course.holding_engine("state")]
        if chance.random() < 0.5:
            victims.append(host.open("state", "manager"))
        for victim, kind in zip(victims, ("engines", "managers"), strict=False):
            course.kills.count(kind)
            victim.kill()
            victim.bury()
            delivered += 1
        course.pause()
        began_s = time.monotonic()
        assert sum(map(host.held_by, victims)) > 0
        heir = host.open("state")
        opened_s.append(time.monotonic() - began_s)
        rows = [host.state("state").query("SELECT count(*) FROM allocation")[0][0] for _ in victims]
        assert rows == [0] * len(victims)
        assert left_over([token for token in map(host.token, victims) if token]) == []
        ready_s = time.monotonic()
        name, run_id = course.wanting(heir, EVERYTHING)
        course.wait_until_gone(victims)
        course.kills.back_s.append(time.monotonic() - ready_s)
        course.note_taken(name, ready_s)
        assert settled(host, "state", [run_id], 20) == ["completed"]
        assert host.overdrawn("state") == []
        if delivered < form.nobody:
            heir.leave()
    course.finish(heir)
    assert max(course.kills.back_s) < LIMIT_S
    record(
        "`kill -9` of all holders, then the next opening",
        delivered,
        f"{course.kills}, both from the opening on, which took {_ms(max(opened_s))} at most",
    )


@pytest.mark.timeout(3600)
@under_kills
def test_what_the_attempt_of_a_killed_worker_had_is_back_and_its_engine_goes_on(
    form: Form, host: SharedHost, chance: Random, record: Callable[..., None]
) -> None:
    host.add("state", *RESOURCES)
    course = Course(host, chance)
    engine = host.open("state")
    for number in range(form.workers):
        name, until = f"w{number}/hold", str(host.folder / f"until{number}")
        given = {"name": name, "locks": ["mutex"], "gpu": 1, "until": until, "child": course._child()}
        resources = {"cpu": 1, "gpu": 1, "memory": "1GiB", "mutex": 1, "seats": 2, "api": 1}
        retry = {"max_attempts": 2, "delay_s": 0}
        step = {"name": "hold", "isolation": "process", "retry": retry, "resources": resources, "with": given}
        run_id = engine.tell(start=host.workflow(f"w{number}", [step]))
        begun = wait_until(lambda: course.effect(name), timeout_s=20)[0]  # noqa: B023
        tree = {begun.parent, *descendants(begun.parent)}
        course.pause()
        kind = chance.choice(("supervisor", "runner"))
        course.kills.count(f"{kind}s")
        run_number = host.state("state").query("SELECT number FROM run WHERE id = ?", (run_id,))[0][0]
        wanted, waiting = course.wanting(engine, EVERYTHING)
        os.kill(begun.parent if kind == "supervisor" else begun.pid, signal.SIGKILL)
        killed_s = time.monotonic()
        rows = "SELECT count(*) FROM allocation WHERE run = ? AND attempt = 1"
        wait_until(
            lambda: not host.state("state").query(rows, (run_number,))[0][0],  # noqa: B023
            timeout_s=20,
            what="the rows of the attempt",
        )
        course.kills.back_s.append(time.monotonic() - killed_s)
        assert tree & set(parents()) == set()
        assert host.overdrawn("state") == []
        Path(until).touch()
        course.note_taken(wanted, killed_s)
        assert settled(host, "state", [run_id, waiting], 20) == ["completed"] * 2
        assert len(course.effect(name)) == 2
    course.finish(engine)
    assert max(course.kills.back_s) < LIMIT_S
    record("`kill -9` of workers whose attempts hold resources", form.workers, str(course.kills))
