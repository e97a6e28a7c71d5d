"""`Admission` beside a plain reading of its rules that looks at all that waits each time; what a rollback leaves.

The oracle knows nothing of shapes, lanes, heaps, parking or journals: a list of waiting positions, a list of attempts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from codomyrmex.logistics.orchestration.project.admission import Admission, Claim, Lane
from codomyrmex.logistics.orchestration.project.machine_share import MachineShare
from codomyrmex.logistics.orchestration.project.named_resources import NamedResource
from codomyrmex.logistics.orchestration.project.order_policy import OrderPolicy
from codomyrmex.logistics.orchestration.project.resource_request import CPU, MEMORY, UNIT, Request
from codomyrmex.logistics.orchestration.project.states import OrchestrationMode

MACHINE = {CPU: 4000, MEMORY: 8}
WORKERS = 5
SEATS = 2
SOON = OrderPolicy(reserve_after_s=30.0, ageing_s=20.0)
REQUESTS = (
    Request(cpu_milli=0),
    Request(cpu_milli=1000),
    Request(cpu_milli=2000, memory_bytes=3),
    Request(cpu_milli=4000),
    Request(cpu_milli=500, memory_bytes=8),
    Request(cpu_milli=1000, named=(("seats", UNIT),)),
    Request(cpu_milli=0, memory_bytes=1, named=(("seats", 2 * UNIT),)),
)
SESSIONS = ("", "", "one", "two", "three")
"""By the number of a run."""
MODES = {"two": OrchestrationMode.SEQUENTIAL, "three": OrchestrationMode.PRIORITY}
CAPS = (None, 2, None, None, 1)


@dataclass(frozen=True)
class Run:
    number: int


@dataclass(slots=True, kw_only=True)
class Waiting:
    """A position that waits."""

    place: tuple[int, float]
    sequence: int
    lane: Lane
    position: int


@dataclass(slots=True, kw_only=True)
class Plan:
    """What one plan brings: time that passes, what ends, what becomes ready, who is held."""

    passes_s: int
    ends: list[int]
    ready: list[tuple[int, int, int, int, float]]
    """Run, request, rank, how many, tail."""
    hold: tuple[int, bool] | None
    refused: bool
    """Its commit fails, so nothing of it has happened."""


PLANS = st.builds(
    Plan,
    passes_s=st.sampled_from([0, 1, 7, 40]),
    ends=st.lists(st.integers(0, 9), max_size=3),
    ready=st.lists(
        st.tuples(
            st.integers(0, len(SESSIONS) - 1),
            st.integers(0, len(REQUESTS) - 1),
            st.integers(0, 3),
            st.integers(1, 3),
            st.sampled_from([1.0, 2.0, 10.0]),
        ),
        max_size=4,
    ),
    hold=st.none() | st.none() | st.tuples(st.integers(0, len(SESSIONS) - 1), st.booleans()),
    refused=st.booleans(),
)


@dataclass(slots=True)
class World:
    """An admission, and beside it what a plain reading remembers."""

    admission: Admission = field(init=False)
    now_us: int = 1_000_000
    lanes: dict[tuple[int, int], Lane] = field(default_factory=dict)
    waiting: list[Waiting] = field(default_factory=list)
    working: list[tuple[Lane, Claim]] = field(default_factory=list)
    held: set[int] = field(default_factory=set)
    positions: int = 0

    def __post_init__(self) -> None:
        self.admission = Admission(
            cpu_milli=MACHINE[CPU], max_workers=WORKERS, share=MachineShare.whole(MACHINE), policy=SOON
        )
        seats = NamedResource(id="seats", name="seats", type="custom", capacity=SEATS * UNIT)
        self.admission.named.load([seats], {})
        for run, session in enumerate(SESSIONS):
            party = self.admission.party(session, mode=MODES.get(session), weight=1.0 + run, told_by=run)
            most = CAPS[run]
            caps = () if most is None else (((run, -1), most),)
            for number, request in enumerate(REQUESTS):
                self.lanes[run, number] = self.admission.lane(
                    Run(run), request=request, quick=False, caps=caps, party=party
                )

    def play(self, plan: Plan, *, refused: bool = False) -> Iterator[tuple[Any, int]]:
        """Plans, and checks every choice; gives what begins. A refused plan changes nothing but the time."""
        admission = self.admission
        self.now_us += plan.passes_s * 1_000_000
        before = (list(self.waiting), list(self.working), self.positions)
        admission.mark(self.now_us)
        for number in plan.ends:
            if self.working:
                admission.release(*self.working.pop(number % len(self.working)))
        for ready in plan.ready:
            self._offer(*ready)
        if plan.hold is not None and not refused:
            self._hold(*plan.hold)
        admission.keep_room()
        while (lane := admission.next_lane()) is not None:
            found = self.first()
            assert found is not None
            assert lane is found.lane
            first, end = admission.take(lane, 1)
            assert (first, end) == (found.position, found.position + 1)
            self.working.append((lane, admission.claim(lane)))
            self.waiting.remove(found)
            yield (*lane.key[:1], lane.number), first
        assert self.first() is None
        if refused:
            admission.rollback()
            self.waiting, self.working, self.positions = before

    def first(self) -> Waiting | None:
        """Who goes next, by the rules."""
        admission = self.admission
        kept = admission.kept_for
        able = [each for each in self.waiting if self._fits(each.lane) and self._may(each.lane)]
        shape = None if kept is None else next(
            each.lane.shape for each in self.waiting if (each.lane.run, each.position) == kept[:2]
        )  # fmt: skip
        if shape is not None:
            mine = [each for each in able if each.lane.shape is shape]
            if mine:
                return min(mine, key=_order)
            able = [each for each in able if self._passes(each.lane.request, shape.request)]
        if not able:
            return None
        turn = min(
            (each.lane.shape.party for each in able),
            key=lambda party: (*party.turn(self.now_us), party.number),
        )
        return self._or_overdue(min((each for each in able if each.lane.shape.party is turn), key=_order))

    def _or_overdue(self, found: Waiting) -> Waiting:
        """Who has waited too long, fits, and stands behind for urgency alone."""
        overdue = self.admission._overdue
        if overdue is None or overdue.lane.shape.party is not found.lane.shape.party:
            return found
        late = [
            each for each in self.waiting if each.lane is overdue.lane and each.position == overdue.head[4]
        ]
        if not late or not self._fits(overdue.lane) or found.place[0] < late[0].place[0]:
            return found
        return late[0]

    def _offer(self, run: int, number: int, rank: int, count: int, tail_s: float) -> None:
        lane = self.lanes[run, number]
        share = _dominant(lane.request)
        self.admission.offer(lane, rank, self.positions, self.positions + count, tail_s)
        policy = lane.shape.party.policy
        origin_us = self.admission._origin_us
        place = policy.place(rank, self.now_us - origin_us, tail_s * (1 + share))
        for position in range(self.positions, self.positions + count):
            self.waiting.append(Waiting(place=place, sequence=self.positions, lane=lane, position=position))
        self.positions += count

    def _hold(self, run: int, held: bool) -> None:
        self.admission.hold(run, held=held)
        (self.held.add if held else self.held.discard)(run)

    def _may(self, lane: Lane) -> bool:
        """Whether its run and its party let it go."""
        run, party = lane.run.number, lane.shape.party
        if run in self.held:
            return False
        cap = CAPS[run]
        if cap is not None and sum(each.run.number == run for each, _ in self.working) >= cap:
            return False
        return not party.policy.one_at_a_time or all(
            each.shape.party is not party for each, _ in self.working
        )

    def _fits(self, lane: Lane) -> bool:
        free = self._free()
        return len(self.working) < WORKERS and all(
            amount <= free[id] for id, amount in _amounts(lane.request)
        )

    def _passes(self, request: Request, kept: Request) -> bool:
        """Whether it leaves what the other lacks, and enough of what there is enough of."""
        if len(self.working) > WORKERS - 2:
            return False
        free, wanted, mine = self._free(), dict(_amounts(kept)), dict(_amounts(request))
        if mine.get("seats") and "seats" in wanted and free["seats"] - mine["seats"] < wanted["seats"]:
            return False
        if wanted.get("seats", 0) > free["seats"]:
            return True  # a machine does not stand still for who waits for a seat
        return all(
            free[id] - mine[id] >= amount for id, amount in wanted.items() if mine.get(id) and id != "seats"
        )

    def _free(self) -> dict[str, int]:
        free = {**MACHINE, "seats": SEATS * UNIT}
        for lane, _claim in self.working:
            for id, amount in _amounts(lane.request):
                free[id] -= amount
        return free


def _amounts(request: Request) -> list[tuple[str, int]]:
    return [*request.machine(), *request.named]


def _dominant(request: Request) -> float:
    most = {**MACHINE, "seats": SEATS * UNIT}
    return max((amount / most[id] for id, amount in _amounts(request)), default=0.0)


def _order(waiting: Waiting) -> tuple[Any, ...]:
    return (*waiting.place, waiting.sequence, waiting.position)


@given(plans=st.lists(PLANS, min_size=1, max_size=25))
@settings(max_examples=100)
def test_who_goes_next_is_who_a_plain_reading_of_the_rules_names(plans: list[Plan]) -> None:
    world = World()
    for plan in plans:
        list(world.play(plan))
        assert world.admission.workers == WORKERS - len(world.working)
        assert world.admission.share.free().get(CPU, 0) == world._free()[CPU]


@given(plans=st.lists(PLANS, min_size=1, max_size=25))
@settings(max_examples=100)
def test_a_plan_that_was_refused_changes_nothing_of_what_begins_later(plans: list[Plan]) -> None:
    """Room that is kept, shares of sessions and who is set aside included."""
    world, twin = World(), World()
    for plan in plans:
        if plan.refused:
            list(world.play(plan, refused=True))
            twin.now_us = world.now_us
            continue
        assert list(world.play(plan)) == list(twin.play(plan))
        assert [party.account for party in world.admission._parties.values()] == [
            party.account for party in twin.admission._parties.values()
        ]
