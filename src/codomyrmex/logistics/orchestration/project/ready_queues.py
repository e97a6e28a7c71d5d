"""The queues of an engine: who waits, in what order, and who is left out for now.

Layer: pure; the lower half of `admission`. A lane that may not go whatever is free (its run has as many attempts as
it may, is held, or follows a plan in which it is not next) is *parked* under the reason, and is back when that may
have changed. So what waits for a limit of its own costs nothing while others are admitted.

Everything between `mark` and `rollback` can be undone, because a plan whose commit failed must leave no trace here
either. What is parked or shown again too early is found out at the next look, so that needs no undoing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush, heapreplace
from typing import TYPE_CHECKING, Any

from codomyrmex.logistics.orchestration.project.fair_share import Account, Party, Told
from codomyrmex.logistics.orchestration.project.followed_plan import Turn
from codomyrmex.logistics.orchestration.project.machine_share import MachineShare
from codomyrmex.logistics.orchestration.project.named_resources import NamedResources
from codomyrmex.logistics.orchestration.project.order_policy import OrderPolicy, Place
from codomyrmex.logistics.orchestration.project.request_shares import dominant_share
from codomyrmex.logistics.orchestration.project.resource_request import CPU, GPU, Request
from codomyrmex.logistics.orchestration.project.shapes import Cap, Entry, Lane, LaneKey, Shape
from codomyrmex.logistics.orchestration.project.states import OrchestrationMode

if TYPE_CHECKING:
    from codomyrmex.logistics.orchestration.project.run_plan import RunPlan

RETIRE_EVERY = 64
"""Once for so many turns it is looked which sessions can be forgotten."""
SESSIONS_KEPT = 10_000
"""Of so many sessions it is remembered how they are to be served."""
HELD, TURN, ASIDE = -2, -3, (-1, -4)
"""Why lanes are parked besides a cap: their run is held, it is not their turn, the caller has set them aside."""


@dataclass(slots=True, kw_only=True)
class Capacity:
    """What one engine may use at most: CPU in thousandths, and attempts at once."""

    cpu_milli: int
    workers: int


class ReadyQueues:
    """See the module."""

    def __init__(
        self,
        *,
        cpu_milli: int,
        max_workers: int,
        share: MachineShare | None = None,
        policy: OrderPolicy | None = None,
    ) -> None:
        self.capacity = Capacity(cpu_milli=cpu_milli, workers=max_workers)
        self.workers = max_workers
        """How many more attempts may begin."""
        self.share = share or MachineShare.whole({CPU: cpu_milli})
        self.named = NamedResources()
        self.policy = policy or OrderPolicy()
        self.wants_named = False
        """True once something has asked for what the state limits."""
        self._wants_more = False
        """True once something has asked for more than CPU."""
        self.wants_pools = False
        """True once a run of a session was here."""
        self._look_us = 0
        """No task has waited too long before this."""
        self._now_us = 0
        self._origin_us = 0
        """When something last came into empty queues: from there ageing classes count, so that it makes no difference
        at what time of day work begins."""
        self._lanes: dict[LaneKey, Lane] = {}
        self._keys_of: dict[int, list[LaneKey]] = {}
        """The lanes of each run."""
        self._filled: dict[LaneKey, Lane] = {}
        self._shapes: dict[tuple[int, Request, str | None], Shape] = {}
        self._parties: dict[str, Party] = {}
        self._told: dict[str, Told] = {}
        self._party_number = 0
        self._reaches = 0
        self._reached_s = 0.0
        """The largest virtual time at which a party went next."""
        self._open: dict[Party, dict[Shape, None]] = {}
        """Per party the shapes in which something may go if it fits."""
        self._parked: dict[tuple[int, int], dict[Lane, None]] = {}
        self._busy: dict[tuple[int, int], int] = {}
        self._held: set[int] = set()
        self._aside: set[Lane] = set()
        self._sequence = 0
        self._lane_number = 0
        self._journal: list[tuple[Callable[..., None], tuple[Any, ...]]] = []

    def party(
        self,
        id: str = "",
        *,
        mode: OrchestrationMode | None = None,
        weight: float | None = None,
        told_by: int = 0,
    ) -> Party:
        """The party of that name; what a newer run says of mode and weight holds for all of it.

        The mode is settled while it has work: places of two modes cannot be compared.
        """
        if mode is not None or weight is not None:
            self._tell(id, Told(mode, weight, told_by))
        found = self._parties.get(id)
        if found is None:
            self._retire()
            self._party_number += 1
            found = Party(id, self._party_number, self.policy)
            found.come_back(self._reached_s, self._now_us)
            self._parties[id], self._open[found] = found, {}
        told = self._told.get(id)
        if told is not None:
            found.weight = told.weight or 1.0
            if told.mode is not None and not found.shape_count:
                found.policy = replace(self.policy, mode=told.mode)
        return found

    def _tell(self, id: str, told: Told) -> None:
        """Remembers how a session is to be served, as the newest run of it says; what that leaves open stays."""
        before = self._told.pop(id, None)
        if before is not None:
            newer, older = (told, before) if told.by >= before.by else (before, told)
            told = Told(newer.mode or older.mode, newer.weight or older.weight, newer.by)
        self._told[id] = told
        if len(self._told) > SESSIONS_KEPT:
            del self._told[next(iter(self._told))]

    def has_pool(self, session: str) -> bool:
        """Whether a session holds anything that its runs are served out of."""
        return session in self.named.pools or self.share.has_pool(session)

    def lane(
        self,
        run: Any,
        *,
        request: Request,
        quick: bool,
        caps: tuple[Cap, ...] = (),
        step: int = -1,
        process: bool = False,
        pool: str | None = None,
        party: Party | None = None,
        turn: Turn | None = None,
        root: int | None = None,
        ageing_class: int = 0,
    ) -> Lane:
        """The lane for such requests of `run`; `step` is -1 unless the step has a cap of its own.

        `caps` may be those of another run too: the limits of a root hold for the runs below it.
        """
        # By identity: equal requests of a workflow are one object, which its lane keeps alive.
        key = (run.number, step, id(request), quick, process, ageing_class)
        found = self._lanes.get(key)
        if found is None:
            party = party or self.party()
            shape = self._shape(party, request, pool)
            if party.policy.one_at_a_time:
                caps = (*caps, ((-1 - party.number, -1), 1))
            self._lane_number += 1
            found = Lane(
                key,
                self._lane_number,
                run,
                run.number if root is None else root,
                shape,
                request,
                quick,
                caps,
                process,
                turn,
                shape.cpu_milli,
                shape.extra,
            )
            shape.lane_count += 1
            self._lanes[key] = found
            self._keys_of.setdefault(run.number, []).append(key)
        return found

    def _shape(self, party: Party, request: Request, pool: str | None) -> Shape:
        found = self._shapes.get((party.number, request, pool))
        if found is None:
            cpu_milli = min(request.cpu_milli, self.capacity.cpu_milli)
            rest = tuple((id, amount) for id, amount in request.machine() if id != CPU)
            if pool is not None and cpu_milli:
                rest, cpu_milli = ((CPU, cpu_milli), *rest), 0
            plain = tuple(each for each in rest if each[0] != GPU)
            share = dominant_share(request, self.share.capacities, self.named, self.capacity.cpu_milli)
            found = Shape(party, request, cpu_milli, pool, rest, plain, share, request.named, request.gpu)
            found.extra = bool(rest or request.named)
            self._shapes[party.number, request, pool] = found
            party.shape_count += 1
            self._wants_more |= found.extra
            self.wants_named |= bool(request.named)
            self.wants_pools |= pool is not None
        return found

    def class_of(self, party: Party, rank: int, *, began_us: int, span_us: int) -> int:
        """The ageing class of a task of that priority that becomes ready now (`offer` has the same words)."""
        return self._place(party, rank, 0.0, began_us, span_us)[0]

    def offer(
        self,
        lane: Lane,
        rank: int,
        first: int,
        end: int,
        tail_s: float = 0.0,
        *,
        began_us: int = 0,
        span_us: int = 0,
    ) -> None:
        """Puts positions `first` to `end - 1` in the queue.

        `rank` is that of their priority (of a run that follows a plan: that in the plan), `tail_s` the longest path
        ahead of them; `began_us` is when their run began, `span_us` how long its tasks let each other pass.
        """
        self._sequence += 1
        shape, now_us = lane.shape, self._now_us
        place: Place
        if lane.turn is not None:
            place = lane.key[5], float(rank)
        else:
            place = self._place(shape.party, rank, tail_s * (1.0 + shape.share), began_us, span_us)
        lane.span_us = span_us
        entry: Entry = (*place, self._sequence, now_us, first, end)
        if len(self._parties) > 1 and not shape.party.account.held:
            self._come_back(shape.party)
        heappush(lane.heap, entry)
        self._filled[lane.key] = lane
        if lane.heap[0] is entry:
            self._show(lane)
        self._journal.append((self._withdraw, (lane, self._sequence)))

    def _place(self, party: Party, rank: int, urgency: float, began_us: int, span_us: int) -> Place:
        now_us = self._now_us
        if not self._filled:
            self._journal.append((self._begin_at, (self._origin_us,)))
            self._origin_us = now_us
        policy = party.policy
        since_us = now_us
        if span_us:
            since_us = policy.counted_from_us(now_us, began_us=began_us, span_us=span_us)
        return policy.place(rank, since_us - self._origin_us, urgency)

    def _come_back(self, party: Party) -> None:
        now_us, parties = self._now_us, self._parties.values()
        if not self._filled and not any(each.account.held for each in parties):
            # Nobody had any work: what somebody used that nobody else wanted is no debt.
            self._reach(max(each.virtual_s(now_us) for each in parties))
        self._journal.append((self._restore, (party, party.account)))
        party.come_back(self._reached_s, now_us)

    def _reach(self, virtual_s: float) -> None:
        self._reaches += 1
        if not self._reaches % RETIRE_EVERY:
            self._retire()
        if virtual_s > self._reached_s:
            self._journal.append((self._go_back_to, (self._reached_s,)))
            self._reached_s = virtual_s

    def set_aside(self, lane: Lane) -> None:
        """Leaves a lane out until `take_back`."""
        self._aside.add(lane)

    def take_back(self) -> None:
        """Ends `set_aside`."""
        if self._aside:
            self._aside.clear()
            self.unpark(ASIDE)

    def follow(self, turn: Turn, plan: RunPlan) -> None:
        """A run that follows a plan has changed: whoever's turn it is now is looked at."""
        before = turn.at
        if turn.look(plan):
            self._journal.append((turn.go_back, (before,)))
            self.unpark((plan.run.number, TURN))

    def waiting_in(self, lane: Lane, at_most: int) -> int:
        """How many positions wait in a lane, counted up to `at_most`."""
        count = 0
        for entry in lane.heap:
            count += entry[5] - entry[4]
            if count >= at_most:
                return at_most
        return count

    @property
    def idle(self) -> bool:
        """True when nothing waits here."""
        return not self._filled

    def take(self, lane: Lane, at_most: int) -> tuple[int, int]:
        """Takes up to `at_most` positions of the head entry; the caller claims for the chunk with `claim`."""
        heap = lane.heap
        head = heap[0]
        first, end = head[4], head[5]
        if first + at_most < end:
            end = first + at_most
            heapreplace(heap, (*head[:4], end, head[5]))
        else:
            heappop(heap)
        if heap:
            lane.shape.push(lane)
            if heap[0][3] < head[3]:
                self._look_us = 0  # one that has waited longer stood behind it
        else:
            self._filled.pop(lane.key, None)
        self._journal.append((self._put_back, (lane, (*head[:4], first, end))))
        return first, end

    def hold(self, run_number: int, *, held: bool) -> None:
        """Takes nothing of a run any more, or goes on with it; what stands in its lanes stays there."""
        if held:
            self._held.add(run_number)
        else:
            self._held.discard(run_number)
            self.unpark((run_number, HELD))

    def forget(self, run_number: int) -> None:
        """Drops the lanes of a run that has ended."""
        self._held.discard(run_number)
        for key in self._keys_of.pop(run_number, ()):
            lane = self._lanes.pop(key)
            self._filled.pop(key, None)
            lane.heap.clear()
            lane.run = None  # what is left of it in a heap keeps no run in memory
            for whose, _cap in lane.caps:
                if whose[0] == run_number:
                    self._parked.pop(whose, None)
            shape = lane.shape
            shape.lane_count -= 1
            if not shape.lane_count:
                self._drop_shape(shape)
        for reason in (HELD, TURN):
            self._parked.pop((run_number, reason), None)

    def _drop_shape(self, shape: Shape) -> None:
        party = shape.party
        self._shapes.pop((party.number, shape.request, shape.pool), None)
        self._open[party].pop(shape, None)
        party.shape_count -= 1

    def _retire(self) -> None:
        """Forgets sessions that have no work, once they are not ahead of the others any more."""
        idle = [each for each in self._parties.values() if each.id and not each.shape_count]
        for party in idle:
            if not party.account.held and party.virtual_s(self._now_us) <= self._reached_s:
                del self._parties[party.id], self._open[party]

    def mark(self, now_us: int = 0) -> None:
        """From here on `rollback` undoes; what is decided is decided at `now_us`."""
        self._now_us = now_us
        self._journal.clear()

    def rollback(self) -> None:
        """Undoes everything since `mark`."""
        for undo, about in reversed(self._journal):
            undo(*about)
        self._journal.clear()
        self._look_us = 0
        self.take_back()

    def _all_open(self) -> list[Shape]:
        return [shape for shapes in self._open.values() for shape in shapes]

    def _head(self, shape: Shape) -> Lane | None:
        """The lane of a shape whose head goes first of those that may go; parks what may not."""
        while (lane := shape.top()) is not None:
            reason = self._barred_by(lane)
            if reason is None:
                return lane
            shape.pop()
            self._park(lane, reason)
        return None

    def _oldest(self, shape: Shape) -> Lane | None:
        """The lane whose head has been ready for longest of those that may go."""
        while (lane := shape.oldest()) is not None:
            reason = self._barred_by(lane)
            if reason is None:
                return lane
            shape.pop_oldest()
            self._park(lane, reason)
        return None

    def _barred_by(self, lane: Lane) -> tuple[int, int] | None:
        """Why a lane may not go, whatever is free."""
        number = lane.key[0]
        if number in self._held:
            return number, HELD
        if lane in self._aside:
            return ASIDE
        turn = lane.turn
        if turn is not None and lane.heap[0][1] > turn.at:
            return number, TURN
        for whose, cap in lane.caps:
            if self._busy.get(whose, 0) >= cap:
                return whose
        return None

    def _park(self, lane: Lane, reason: tuple[int, int]) -> None:
        self._parked.setdefault(reason, {})[lane] = None

    def unpark(self, reason: tuple[int, int]) -> None:
        """What was parked for a reason that may be gone is looked at again."""
        for lane in self._parked.pop(reason, ()):
            if lane.heap:
                self._show(lane)
                self._look_us = 0

    def _show(self, lane: Lane) -> None:
        shape = lane.shape
        shape.push(lane)
        self._open[shape.party][shape] = None

    def _count(self, lane: Lane, sign: int) -> None:
        lane.chunks += sign
        self.workers -= sign
        self.share.cpu_milli -= sign * lane.cpu_milli
        for whose, _cap in lane.caps:
            busy = self._busy.get(whose, 0) + sign
            if busy:
                self._busy[whose] = busy
            else:
                self._busy.pop(whose, None)
            if sign < 0 and whose in self._parked:
                self.unpark(whose)

    def _restore(self, party: Party, account: Account) -> None:
        party.account = account

    def _begin_at(self, origin_us: int) -> None:
        self._origin_us = origin_us

    def _go_back_to(self, reached_s: float) -> None:
        self._reached_s = reached_s

    def _put_back(self, lane: Lane, entry: Entry) -> None:
        heappush(lane.heap, entry)
        self._filled[lane.key] = lane
        self._show(lane)

    def _withdraw(self, lane: Lane, sequence: int) -> None:
        lane.heap[:] = [entry for entry in lane.heap if entry[2] != sequence]
        heapify(lane.heap)
        if lane.heap:
            self._show(lane)
            return
        self._filled.pop(lane.key, None)
        shape = lane.shape
        if shape.top() is None:
            self._open[shape.party].pop(shape, None)
