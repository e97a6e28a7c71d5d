"""How far a run is, and how long it will go on: from what was learned, what runs, and what may run side by side.

Layer: pure. Times are seconds. Work is counted in seconds of attempts:

    percent   work done / (work done + work left); an attempt under way counts with the time it has taken
    left      the longest of: the longest path that is still open; for each resource the work left that needs it,
              divided by how much of it there is; the same for workers and for `max_parallel`

No order of the work can beat the second, and a good one comes close. Each phase comes after the other. Other runs
are not seen: it is the time that is left if the machine serves this run alone.

An attempt that says how far it is (`current_task().progress`) goes on at the speed that it had, and as done counts
what it says. For any other the rest is the median of what is left of the attempts that took at least as long: its
duration is taken to be log-logistic, because then median and 90th percentile give everything in closed form, and its
tail is that of real durations (who has taken far too long already will take a good deal longer).

Both are None where nothing is known of at least half of the attempts that are still to come.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from math import exp, log, prod, sqrt
from typing import Any, NamedTuple

from codomyrmex.logistics.orchestration.project.compiled_workflow import CompiledWorkflow
from codomyrmex.logistics.orchestration.project.expectations import Expectation, Expectations
from codomyrmex.logistics.orchestration.project.named_resources import NamedResource
from codomyrmex.logistics.orchestration.project.resource_request import GPU
from codomyrmex.logistics.orchestration.project.run_state import BLOCKED, COMPLETED, FAILED, PENDING, RUNNING
from codomyrmex.logistics.orchestration.project.states import RunPhase
from codomyrmex.logistics.orchestration.project.step_spec import StepSpec
from codomyrmex.logistics.orchestration.project.waiting_spec import CHILDREN_AT_ONCE

TRUSTED_FRACTION = 0.05
"""From here on the speed of an attempt says more than what others took."""
NEARLY_ALL = 99.9
"""What is said to be done where a step is open that takes no time: it may wait for somebody's answer yet."""
_STEEPEST = 20.0
_OPEN = bytes(code in (BLOCKED, PENDING, RUNNING) for code in range(256))
_DONE = bytes(code in (COMPLETED, FAILED) for code in range(256))


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What may run side by side: attempts at once, and amounts in the units of a `Request`."""

    workers: int
    machine: Mapping[str, int] = field(default_factory=dict)
    """By resource id; every device by its own."""
    named: Mapping[str, NamedResource] = field(default_factory=dict)
    """What the state limits, by name and by id."""
    max_parallel: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """How far a fan-out is that has been expanded; `done` are those that completed or failed."""

    size: int
    ended: int = 0
    done: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class UnderWay:
    """One attempt that runs, or one wait that goes on."""

    step: int
    elapsed_s: float
    fraction: float | None = None
    """How much of it is done, 0 to 1, as it said itself,"""
    told_s: float = 0.0
    """so long ago."""
    rest: Expectation | None = None
    """How long it goes on, where that is known otherwise: of a wait, of a run that it started."""
    starts_in_s: float = 0.0
    """Of the next attempt of a task, how long that is put off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a run stands now."""

    states: bytes
    """One code for each step."""
    items: Mapping[int, Items] = field(default_factory=dict)
    under_way: Sequence[UnderWay] = ()
    phase: RunPhase = RunPhase.MAIN
    stopping: bool = False
    """True where nothing new of this phase starts any more."""
    elapsed_s: float | None = None
    """Since the run began."""


class RunEstimate(NamedTuple):
    """0 to 100, and seconds; `left_p90_s` is not exceeded in nine cases of ten, as far as durations tell."""

    percent: float
    left_s: float
    left_p90_s: float

    def to_dict(self) -> dict[str, Any]:
        """Every field."""
        return self._asdict()


class _Length(NamedTuple):
    """So many seconds, and the square of what may be added to that in nine cases of ten."""

    left_s: float = 0.0
    spread: float = 0.0

    @property
    def p90_s(self) -> float:
        return self.left_s + sqrt(self.spread)

    def and_then(self, other: _Length) -> _Length:
        """This, and the other after it."""
        return _Length(self.left_s + other.left_s, self.spread + other.spread)


@dataclass(slots=True)
class _Work:
    """What is left of some steps: seconds of attempts, their spread, how many are still to start, and how many
    of all that are open are known."""

    left_s: float = 0.0
    spread: float = 0.0
    starts: float = 0.0
    known: float = 0.0
    unknown: float = 0.0

    def add(self, other: _Work) -> None:
        self.left_s += other.left_s
        self.spread += other.spread
        self.starts += other.starts
        self.known += other.known
        self.unknown += other.unknown


@dataclass(slots=True)
class _Begun:
    """A step of which something runs, or whose items are known."""

    elapsed_s: float
    done_s: float
    """The part of the elapsed that counts as done: of an attempt that says how far it is, no more than it says."""
    work: _Work
    length: _Length


def rest_of(expected: Expectation, elapsed_s: float) -> Expectation:
    """How long an attempt goes on that has taken `elapsed_s` already and says nothing itself; see the module."""
    middle, late = expected.median_s, max(expected.p90_s, expected.median_s)
    if middle <= 0.0 or elapsed_s <= 1e-9 * middle:
        return Expectation(max(0.0, middle), max(0.0, late), expected.known)
    steepness = min(_STEEPEST, log(9.0) / log(late / middle)) if late > middle * 1.1 else _STEEPEST
    logarithm = steepness * log(elapsed_s / middle)
    if logarithm > 500.0:  # beyond anything seen, where only the proportion is left
        halves, tenth = elapsed_s * 2.0 ** (1.0 / steepness), elapsed_s * 10.0 ** (1.0 / steepness)
    else:
        odds = exp(logarithm)
        halves = middle * (1.0 + 2.0 * odds) ** (1.0 / steepness)
        tenth = middle * (9.0 + 10.0 * odds) ** (1.0 / steepness)
    return Expectation(halves - elapsed_s, tenth - elapsed_s, expected.known)


def rest_of_attempt(expected: Expectation, at: UnderWay) -> Expectation:
    """How long an attempt under way goes on; `known` where anything but a guess says so."""
    if at.rest is not None:
        return at.rest
    if at.starts_in_s:
        return Expectation(
            at.starts_in_s + expected.median_s, at.starts_in_s + expected.p90_s, expected.known
        )
    fraction = at.fraction
    if not fraction or (fraction < TRUSTED_FRACTION and expected.known):
        return rest_of(expected, at.elapsed_s)
    then_s = max(0.001, at.elapsed_s - at.told_s)
    # The less is done, and the longer nothing was said since, the less does the speed until then say.
    doubt = (1.0 - fraction) / 2.0 + at.told_s / then_s
    said = Expectation(then_s / fraction, then_s / fraction * (1.0 + doubt))
    return rest_of(said, at.elapsed_s)


class Outlook:
    """What one workflow is expected to take; `estimate` holds it against how a run of it stands."""

    def __init__(self, workflow: CompiledWorkflow, expectations: Expectations, room: Room) -> None:
        self._workflow = workflow
        self._room = room
        self._whole = expectations.runs.get(workflow.name)
        self._expected = expectations.of_steps(workflow)
        self._limits = [list(_limits(spec, room)) for spec in workflow.specs]
        self._widths = [self._width(step) for step in range(len(workflow))]
        self._sizes = {step: _size_of(workflow, step, expectations) for step in workflow.fan_outs}
        self._expanded: dict[int, int] | None = None
        self._work: list[_Work] = []
        """Per step, all that it is before it begins,"""
        self._lengths: list[_Length] = []
        """and how long that takes;"""
        self._behind_s = self._behind_spread = array("d")
        """the longest path behind it to the end of its phase."""

    def expected(self, step: int) -> Expectation:
        """How long an attempt of a step is expected to take."""
        return self._expected[step]

    def estimate(self, standing: Standing) -> RunEstimate | None:
        """How far the run is; None where too little is known."""
        self._expand({step: items.size for step, items in standing.items.items()})
        begun = self._begun(standing)
        open_flags = bytearray(standing.states.translate(_OPEN))
        done_flags = bytearray(standing.states.translate(_DONE))
        for step in {*begun, *standing.items}:
            open_flags[step] = done_flags[step] = 0
        for step, undone in self._workflow.undoes.items():
            if standing.states[undone] != COMPLETED:
                open_flags[step] = 0  # there is nothing to undo
        done_s = sum(work.left_s for work in compress(self._work, done_flags))
        done_s += sum(items.done * self._expected[step].median_s for step, items in standing.items.items())
        spent_s = done_s + sum(each.elapsed_s for each in begun.values())
        done_s += sum(each.done_s for each in begun.values())
        total, left_s, p90_s = _Work(), 0.0, 0.0
        for rank, steps in enumerate(self._phases(standing)):
            here = {at: each for at, each in begun.items() if at in steps}
            if rank == 0 and standing.stopping:
                work, lengths = self._last_of(here)
            else:
                work, lengths = self._phase(steps, open_flags[steps.start : steps.stop], here)
            left_s += max(length.left_s for length in lengths)
            p90_s += max(length.p90_s for length in lengths)
            total.add(work)
        if total.unknown > total.known:
            return self._as_a_whole(standing)
        whole_s = spent_s + total.left_s
        if whole_s <= 0.0:
            return None
        percent = 100.0 * done_s / whole_s
        if percent >= 100.0:
            percent = NEARLY_ALL if 1 in standing.states.translate(_OPEN) else 100.0
        return RunEstimate(percent, left_s, p90_s)

    # -- before anything has begun ---------------------------------------------------------------

    def _expand(self, sizes: dict[int, int]) -> None:
        """Works out the lengths of steps and paths, where fan-outs turned out to be of other sizes than expected."""
        if sizes == self._expanded:
            return
        self._expanded = sizes
        known_sizes = {step: (float(size), True) for step, size in sizes.items()}
        found = {**self._sizes, **known_sizes}
        waiting = self._workflow.waiting
        self._work, self._lengths = [], []
        made: dict[tuple[int, float, bool, float, bool], tuple[_Work, _Length]] = {}
        for step, expected in enumerate(self._expected):
            count, known = found.get(step, (1.0, True))
            key = (id(expected), count, known, self._widths[step], step in waiting)
            if key not in made:  # many steps are alike
                made[key] = _before(expected, *key[1:])
            work, length = made[key]
            self._work.append(work)
            self._lengths.append(length)
        self._follow_paths()

    def _follow_paths(self) -> None:
        """The longest path behind each step, from the ends of the graph upwards."""
        graph, lengths = self._workflow.graph, self._lengths
        behind_s = array("d", bytes(8 * len(lengths)))
        spreads = array("d", bytes(8 * len(lengths)))
        offsets, targets = graph.child_offsets, graph.child_targets
        for step in reversed(graph.order()):
            first, end = offsets[step], offsets[step + 1]
            if first == end:
                continue
            longest_s, spread = 0.0, 0.0
            for child in targets[first:end]:
                length = lengths[child]
                through_s = length.left_s + behind_s[child]
                if through_s >= longest_s:
                    longest_s, spread = through_s, length.spread + spreads[child]
            behind_s[step], spreads[step] = longest_s, spread
        self._behind_s, self._behind_spread = behind_s, spreads

    def _width(self, step: int) -> float:
        """How many items of a step run side by side if nothing else does."""
        workflow = self._workflow
        if step not in workflow.fan_outs:
            return 1.0
        spec = workflow.spec(step)
        if step in workflow.waiting:
            return float(spec.max_parallel or CHILDREN_AT_ONCE)
        caps = [float(cap) for cap in (spec.max_parallel, self._room.max_parallel, self._room.workers) if cap]
        caps += [1.0 / limit.part for limit in self._limits[workflow.spec_of[step]] if limit.part]
        return max(1.0, min(caps, default=1.0))

    # -- as it stands ----------------------------------------------------------------------------

    def _begun(self, standing: Standing) -> dict[int, _Begun]:
        """The steps of which something runs, and the fan-outs that have been expanded and are open."""
        under_way: dict[int, list[UnderWay]] = {}
        for at in standing.under_way:
            under_way.setdefault(at.step, []).append(at)
        fan_outs = [step for step in standing.items if _OPEN[standing.states[step]]]
        return {
            step: self._begun_step(step, under_way.get(step, []), standing)
            for step in {*under_way, *fan_outs}
        }

    def _begun_step(self, step: int, under_way: Sequence[UnderWay], standing: Standing) -> _Begun:
        expected, items = self._expected[step], standing.items.get(step)
        waits = 0 if items is None else max(0, items.size - items.ended - len(under_way))
        if standing.stopping and self._workflow.phase_of(step) == standing.phase.rank:
            waits = 0
        work = _work_of(expected, waits, known=expected.known)
        longest, done_s = _Length(), 0.0
        for at in under_way:
            rest = rest_of_attempt(expected, at)
            done_s += at.elapsed_s if at.fraction is None else at.fraction * (at.elapsed_s + rest.median_s)
            length = _length_of(rest)
            work.add(_Work(length.left_s, length.spread, 0.0, float(rest.known), float(not rest.known)))
            longest = max(longest, length)
        if step in self._workflow.waiting:
            work.known = work.unknown = 0.0
        if waits:
            longest = max(longest, _length_of(expected))
        width = self._widths[step]
        length = max(longest, _Length(work.left_s / width, work.spread / (width * width)))
        return _Begun(sum(at.elapsed_s for at in under_way), done_s, work, length)

    def _phase(
        self, steps: range, flags: bytearray, begun: Mapping[int, _Begun]
    ) -> tuple[_Work, list[_Length]]:
        """What is left of the steps of one phase, and all that says how long it takes at least."""
        spec_of, waiting = self._workflow.spec_of, self._workflow.waiting
        total, longest = _Work(), _Length()
        by_spec: dict[int, _Work] = {}
        lengths, behind_s = self._lengths, self._behind_s
        for step in compress(steps, flags):
            if lengths[step].left_s + behind_s[step] >= longest.left_s:
                longest = max(longest, self._path(step, lengths[step]))
            (total if step in waiting else by_spec.setdefault(spec_of[step], _Work())).add(self._work[step])
        for step, each in begun.items():
            longest = max(longest, self._path(step, each.length))
            (total if step in waiting else by_spec.setdefault(spec_of[step], _Work())).add(each.work)
        loads: dict[str, _Length] = {}
        for spec, work in by_spec.items():
            total.add(work)
            for name, part, quota_s in self._limits[spec]:
                amount = work.starts * quota_s if quota_s else work.left_s * part
                loads[name] = loads.get(name, _Length()).and_then(_Length(amount, work.spread * part * part))
        return total, [longest, *loads.values()]

    @staticmethod
    def _last_of(begun: Mapping[int, _Begun]) -> tuple[_Work, list[_Length]]:
        """The same of a phase of which nothing new starts."""
        total = _Work()
        for each in begun.values():
            total.add(each.work)
        return total, [_Length(), *(each.length for each in begun.values())]

    def _path(self, step: int, length: _Length) -> _Length:
        """The longest path that begins with a step, of which so much is left."""
        return _Length(length.left_s + self._behind_s[step], length.spread + self._behind_spread[step])

    def _phases(self, standing: Standing) -> Iterator[range]:
        """The steps of the present phase, and of the last one, which always comes."""
        yield self._workflow.phase_steps(standing.phase)
        if standing.phase is not RunPhase.FINALLY:
            yield self._workflow.phase_steps(RunPhase.FINALLY)

    def _as_a_whole(self, standing: Standing) -> RunEstimate | None:
        """From how long runs of this workflow took, where its steps say too little."""
        if self._whole is None or standing.elapsed_s is None or standing.phase is not RunPhase.MAIN:
            return None
        rest = rest_of(self._whole, standing.elapsed_s)
        whole_s = standing.elapsed_s + rest.median_s
        return (
            RunEstimate(100.0 * standing.elapsed_s / whole_s, rest.median_s, rest.p90_s) if whole_s else None
        )


class _Limit(NamedTuple):
    """What attempts of a spec share with others: `part` of it while they run, or `quota_s` seconds of a quota each."""

    name: str
    part: float
    quota_s: float = 0.0


def _limits(spec: StepSpec, room: Room) -> Iterator[_Limit]:
    yield _Limit("workers", 1.0 / room.workers)
    if room.max_parallel:
        yield _Limit("max_parallel", 1.0 / room.max_parallel)
    gpus = sum(amount for id, amount in room.machine.items() if id.startswith(f"{GPU}-"))
    for id, amount in spec.request.machine():
        capacity = gpus if id == GPU else room.machine.get(id, 0)
        if capacity:
            yield _Limit(id, min(1.0, amount / capacity))
    for name, amount in spec.request.named:
        found = room.named.get(name)
        if found is not None and found.capacity and found.rate is not None:
            yield _Limit(found.id, 0.0, found.rate.cost_us(amount) / 1_000_000)
        elif found is not None and found.capacity:
            yield _Limit(found.id, min(1.0, amount / found.capacity))


def _work_of(expected: Expectation, count: float, *, known: bool) -> _Work:
    spread = max(0.0, expected.p90_s - expected.median_s) ** 2
    return _Work(
        left_s=count * expected.median_s,
        spread=count * spread,
        starts=count,
        known=count if known else 0.0,
        unknown=0.0 if known else count,
    )


def _before(
    expected: Expectation, count: float, known: bool, width: float, waits: bool
) -> tuple[_Work, _Length]:
    """All that a step is before it begins: `count` attempts, `width` of them side by side."""
    work = _work_of(expected, count, known=known and expected.known)
    if waits:
        work.starts = work.known = work.unknown = 0.0
    length = _Length(work.left_s / width, work.spread / (width * width))
    return work, max(length, _length_of(expected)) if count else _Length()


def _length_of(expected: Expectation) -> _Length:
    return _Length(expected.median_s, max(0.0, expected.p90_s - expected.median_s) ** 2)


def _size_of(workflow: CompiledWorkflow, step: int, expectations: Expectations) -> tuple[float, bool]:
    """How many items a fan-out will have, and whether that is known: from its list, or from earlier runs."""
    template = workflow.fan_outs[step]
    fixed = template.fixed
    if isinstance(fixed, list):
        return float(len(fixed)), True
    if isinstance(fixed, dict) and step in workflow.grids:
        lists = [choices for choices in fixed.values() if isinstance(choices, list)]
        return float(prod(len(choices) for choices in lists)), len(lists) == len(fixed)
    learned = expectations.items.get((workflow.name, workflow.names[step]))
    return (1.0, False) if learned is None else (float(learned), True)


def child_under_way(step: int, found: RunEstimate) -> UnderWay:
    """A run that a step has started, as that run is expected to go on."""
    done = min(found.percent, 99.9) / 100.0
    rest = Expectation(found.left_s, max(found.left_s, found.left_p90_s))
    return UnderWay(step=step, elapsed_s=found.left_s * done / (1.0 - done), rest=rest)
