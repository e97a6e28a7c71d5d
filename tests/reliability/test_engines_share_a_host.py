"""Three engines of two projects on one host: what their tasks themselves say they used, held against what there is.

The audit believes no engine: every task notes with one clock when it began and ended, a mutex and a GPU are files that
the kernel locks, and what each sort of task was given stands in a table here.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest
from run_audit import opened
from shared_host import Effect, Host, SharedHost, named, quota, settled

CPUS, MEMORY = 3, 8 * 2**30
CALLS_PER_S, BURST = 40, 20
SEATS = 4
GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Sort:
    """One sort of task: so many of a hundred, and what each is given."""

    name: str
    share: int
    isolation: str = "thread"
    cpu: float = 0.0
    memory: int = 0
    named: Mapping[str, int] = field(default_factory=dict)
    priority: str = "normal"
    seconds: float = 0.003
    only: str = ""
    """The project that has it; empty for all."""


SORTS = (
    Sort(name="half", share=18, cpu=0.5, priority="low"),
    Sort(name="one", share=18, cpu=1),
    Sort(name="two", share=10, cpu=2, priority="high"),
    Sort(name="heavy", share=8, cpu=0.5, memory=3 * GIB, isolation="process", priority="critical"),
    Sort(name="apart", share=10, cpu=1, isolation="process"),
    Sort(name="part", share=10, cpu=0.5, memory=GIB, isolation="process", priority="high"),
    Sort(name="mutex", share=6, cpu=0.5, named={"mutex": 1}),
    Sort(name="alone", share=4, cpu=1, named={"mutex": 1, "seats": 1}, isolation="process", priority="high"),
    Sort(name="seats", share=8, named={"seats": 2}, seconds=0.005),
    Sort(name="call", share=6, named={"api": 1}, only="one"),
    Sort(name="calls", share=2, cpu=0.5, named={"api": 5}, isolation="process", only="one"),
)
BY_NAME = {sort.name: sort for sort in SORTS}


@dataclass(frozen=True, kw_only=True)
class Form:
    """Tasks of all three engines together; tasks of each of two engines at one CPU."""

    tasks: int = 360
    turns: int = 12


under_load = pytest.mark.parametrize(
    "form",
    [
        pytest.param(Form(), id="short"),
        pytest.param(Form(tasks=10_500, turns=400), id="full", marks=pytest.mark.reliability),
    ],
)


@pytest.fixture
def machine() -> dict[str, str]:
    return {"cpu": str(CPUS), "memory": str(MEMORY)}


@pytest.fixture
def host(tmp_path: Path, machine: dict[str, str]) -> Iterator[SharedHost]:
    found = SharedHost(tmp_path, machine)
    yield found
    found.end()


def open_all(host: SharedHost, *states: str) -> list[Host]:
    """Several engines at once."""
    engines = [host.begin(state) for state in states]
    for engine in engines:
        assert engine.hear() == {"pid": engine.pid}
    return engines


def steps(engine: str, project: str, tasks: int, chance: Random) -> list[dict[str, Any]]:
    """A fan-out for each sort, in any order."""
    found = []
    for sort in SORTS:
        if sort.only not in ("", project):
            continue
        resources: dict[str, Any] = {"cpu": sort.cpu, **sort.named}
        if sort.memory:
            resources["memory"] = sort.memory
        given = {
            "name": f"{engine}/{sort.name}/${{index}}",
            "seconds": sort.seconds,
            "locks": [f"{project}-mutex"] if "mutex" in sort.named else [],
        }
        found.append(
            {
                "name": sort.name,
                "isolation": sort.isolation,
                "priority": sort.priority,
                "resources": resources,
                "foreach": f"${{range({tasks * sort.share // 100})}}",
                "with": given,
            }
        )
    chance.shuffle(found)
    return found


def used_at_most(effects: Sequence[Effect], amount: Callable[[str, Sort], float]) -> float:
    """The most that tasks said they used at any one instant."""
    edges = []
    for effect in effects:
        engine, sort, _index = effect.name.split("/")
        much = amount(engine, BY_NAME[sort])
        if much:
            edges.append((effect.at_ns, much if effect.word == "begin" else -much))
    most = now = 0.0
    for _at_ns, step in sorted(edges):
        now += step
        most = max(most, now)
    return most


def most_called(calls: Sequence[tuple[float, int]]) -> float:
    """By how much more than the rate was called in the worst of all windows: (instant in seconds, calls) in order."""
    before, best, worst = 0, -float("inf"), 0.0
    for at_s, weight in calls:
        best = max(best, CALLS_PER_S * at_s - before)
        before += weight
        worst = max(worst, before - CALLS_PER_S * at_s + best)
    return worst


def claims(host: SharedHost, run_ids: Sequence[str]) -> dict[str, float]:
    """When each call was let through, by the journals."""
    found = {}
    with opened(host.folder / "one") as (_database, reader):
        for number, run_id in enumerate(run_ids, 1):
            for event in reader.events(run_id):
                if event["event"] == "started" and (event["task"] or "").startswith("call"):
                    step, _, index = event["task"].removesuffix("]").partition("[")
                    if index:
                        at_s = datetime.fromisoformat(event["at"]).timestamp()
                        found[f"e{number}/{step}/{index}"] = at_s
    return found


@pytest.mark.timeout(1800)
@under_load
def test_three_engines_of_two_projects_never_use_more_than_there_is(
    form: Form, host: SharedHost, chance: Random, record: Callable[..., None]
) -> None:
    host.add("one", named("mutex", 1), named("seats", SEATS), quota("api", CALLS_PER_S, 1.0, BURST))
    host.add("two", named("mutex", 1), named("seats", SEATS))
    projects = ("one", "one", "two")
    engines = open_all(host, *projects)
    began_s = time.monotonic()
    run_ids = []
    for number, (engine, project) in enumerate(zip(engines, projects, strict=True), 1):
        given = steps(f"e{number}", project, form.tasks // 3, chance)
        run_ids.append(engine.tell(start=host.workflow(f"w{number}", given)))
    statuses = settled(host, "one", run_ids[:2], 1500) + settled(host, "two", run_ids[2:], 1500)
    took_s = time.monotonic() - began_s
    assert statuses == ["completed"] * 3
    for engine in engines:
        engine.leave()
    effects = host.effects()
    assert [effect for effect in effects if effect.word not in ("begin", "end")] == []
    begun = Counter(effect.name for effect in effects if effect.word == "begin")
    assert set(begun.values()) == {1}
    assert Counter(effect.name for effect in effects if effect.word == "end") == begun
    cpus = used_at_most(effects, lambda _engine, sort: sort.cpu)
    assert 1 < cpus <= CPUS
    assert used_at_most(effects, lambda _engine, sort: sort.memory) <= MEMORY
    for members in (("e1", "e2"), ("e3",)):
        assert at_most(effects, members, "mutex") == 1
        assert at_most(effects, members, "seats") <= SEATS
    excess = check_calls(effects, claims(host, run_ids[:2]))
    assert host.left("one", "two") == {}
    record(
        "two projects and three engines on one host, threads and processes",
        len(begun),
        f"CPUs used at once at most {cpus:g} of {CPUS}, a mutex held twice 0 times, calls beyond the rate at most "
        f"{excess:.1f} of a burst of {BURST} in any window, left at the end 0; {took_s:.0f} s",
    )


def at_most(effects: Sequence[Effect], engines: Sequence[str], resource: str) -> float:
    """The most of a named resource that was in use at once in the state of these engines."""
    return used_at_most(effects, lambda engine, sort: sort.named.get(resource, 0) if engine in engines else 0)


def check_calls(effects: Sequence[Effect], claimed_s: Mapping[str, float]) -> float:
    """No window has more calls than the burst and its length times the rate; returns the most beyond the rate.

    What is let through is held to it exactly. What begins comes a little after that, some sooner than others, so
    windows of begins may be longer by that difference.
    """
    begun = [e for e in effects if e.word == "begin" and "api" in BY_NAME[e.name.split("/")[1]].named]
    assert {effect.name for effect in begun} == set(claimed_s)
    weight = {name: BY_NAME[name.split("/")[1]].named["api"] for name in claimed_s}
    excess = most_called(sorted((at_s, weight[name]) for name, at_s in claimed_s.items()))
    # Journals have whole microseconds, so an instant may be told one too early.
    assert excess <= BURST + CALLS_PER_S * 2e-6
    late_s = [effect.at_ns / 1e9 - claimed_s[effect.name] for effect in begun]
    by_begin = most_called(sorted((effect.at_ns / 1e9, weight[effect.name]) for effect in begun))
    assert by_begin <= BURST + CALLS_PER_S * (max(late_s) - min(late_s) + 2e-6)
    return excess


@pytest.mark.timeout(600)
@pytest.mark.parametrize("machine", [{"cpu": "1"}])
@pytest.mark.parametrize(
    ("projects", "what"),
    [(("one", "two"), "cpu"), (("one", "one"), "cpu"), (("one", "one"), "mutex")],
    ids=["cpu of two projects", "cpu of one project", "mutex"],
)
@under_load
def test_of_two_engines_at_one_cpu_or_mutex_neither_waits_for_more_than_two_tasks_of_the_other(
    form: Form, projects: tuple[str, str], what: str, host: SharedHost, record: Callable[..., None]
) -> None:
    if what == "mutex":
        host.add("one", named("mutex", 1))
    engines = open_all(host, *projects)
    submitted, run_ids = {}, []
    for name, engine, seconds in zip(("a", "b"), engines, (0.010, 0.015), strict=True):
        given = {"name": f"{name}/turn/${{index}}", "seconds": seconds}
        fan_out = {
            "name": "turn",
            "isolation": "thread",
            "resources": {"cpu": 0} | {what: 1},
            "foreach": f"${{range({form.turns})}}",
            "with": given,
        }
        run_ids.append(engine.tell(start=host.workflow(name, [fan_out])))
        submitted[name] = time.monotonic_ns()
    for project, run_id in zip(projects, run_ids, strict=True):
        assert settled(host, project, [run_id], 300) == ["completed"]
    for engine in engines:
        engine.leave()
    effects = host.effects()
    waits = {name: tasks_waited_for(effects, name, submitted[name]) for name in submitted}
    assert len(effects) == 4 * form.turns
    assert overlaps(effects) == 0
    assert max(map(max, waits.values())) <= 2, waits
    assert host.left(*projects) == {}
    how_often = Counter(count for counts in waits.values() for count in counts)
    counted = ", ".join(f"{number}: {count} times" for number, count in sorted(how_often.items()))
    record(
        f"two engines of {len(set(projects))} project{'s' * (len(set(projects)) - 1)} at one {what} take turns",
        2 * form.turns,
        f"tasks of the other before the next own one: {counted}",
    )


def tasks_waited_for(effects: Sequence[Effect], name: str, submitted_ns: int) -> list[int]:
    """How many tasks of others began before each of this engine's, since its last one ended."""
    edges: dict[bool, list[tuple[int, str]]] = defaultdict(list)
    for effect in effects:
        edges[effect.name.startswith(f"{name}/")].append((effect.at_ns, effect.word))
    others = [at_ns for at_ns, word in edges[False] if word == "begin"]
    counts, since_ns = [], submitted_ns
    for at_ns, word in sorted(edges[True]):
        if word == "begin":
            counts.append(sum(since_ns < other < at_ns for other in others))
        else:
            since_ns = at_ns
    return counts


def overlaps(effects: Sequence[Effect]) -> int:
    """How many tasks began while another had not ended."""
    ordered = sorted(effects, key=lambda effect: effect.at_ns)
    running = found = 0
    for effect in ordered:
        found += effect.word == "begin" and running > 0
        running += 1 if effect.word == "begin" else -1
    return found
