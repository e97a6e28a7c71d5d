"""What a plan made ready goes into the queues; what fits comes out of them as chunks.

Layer: beside the drain, which calls it while it plans; it holds nothing itself. How many attempts one chunk
holds is decided here: several where they are known to be so short that a commit for each would cost more than
the work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import ceil

from codomyrmex.logistics.orchestration.project.admission import Admission, Cap, Lane
from codomyrmex.logistics.orchestration.project.batch import Batch
from codomyrmex.logistics.orchestration.project.fair_share import Party
from codomyrmex.logistics.orchestration.project.news import Chunk
from codomyrmex.logistics.orchestration.project.resource_request import MEMORY, Request
from codomyrmex.logistics.orchestration.project.run_plan import RunPlan
from codomyrmex.logistics.orchestration.project.run_state import PENDING, RunState
from codomyrmex.logistics.orchestration.project.states import Isolation, OrchestrationMode
from codomyrmex.logistics.orchestration.project.step_spec import StepSpec

CHUNK_LENGTH = 64
"""At most so many attempts are committed ahead in one slot."""
MIB = 2**20
QUICK_S = 0.002
"""An attempt that is known to take less may share a commit with others, up to so much work in all."""
SPREAD_S = 0.0005
"""Less work than this is not shared out: handing it to another thread would take longer than doing it."""


def offer_ready(admission: Admission, plan: RunPlan) -> None:
    """Puts what a plan made ready in the queue, neighbours that make the same request as one entry."""
    run = plan.run
    spec_of, steps, tails = run.workflow.spec_of, run.step_count, run.tails
    ready = sorted(plan.ready)
    alone = plan.memory_raises or run.memory_raises or run.turn is not None
    first, end = ready[0]
    for start, stop in ready[1:]:
        if (
            start == end
            and stop <= steps
            and spec_of[start] == spec_of[first]
            and tails[start] == tails[first]
            and not alone
        ):
            end = stop
            continue
        _offer(admission, plan, first, end)
        first, end = start, stop
    _offer(admission, plan, first, end)


def _offer(admission: Admission, plan: RunPlan, first: int, end: int) -> None:
    run = plan.run
    step = plan.step_of(first)
    spec = run.workflow.spec(step)
    apart = spec.max_parallel is not None
    # Each step has a cap of its own.
    if end - first > 1 and ((apart and first < run.step_count) or run.turn is not None):
        for position in range(first, end):
            _offer(admission, plan, position, position + 1)
        return
    raises = plan.raise_count(first)
    plain = not (raises or apart or run.turn is not None or run.options.session is not None)
    number = run.workflow.spec_of[step]
    lane = run.lanes.get(number) if plain else None
    if lane is None:
        lane = _lane(admission, run, step, raises=raises)
        if plain:
            run.lanes[number] = lane
    rank = spec.priority.rank if run.turn is None else run.turn.rank_of(plan.name_of(first))
    admission.offer(lane, rank, first, end, run.tails[step], began_us=run.began_us, span_us=run.span_us)


def _lane(admission: Admission, run: RunState, step: int, *, raises: int) -> Lane:
    """The lane of a step whose attempts ran out of memory so often."""
    spec = run.workflow.spec(step)
    request = spec.request
    if raises:
        request = _raised(request, spec.retry.memory**raises, admission.share.capacities)
    party = _party(admission, run) or admission.party()
    ageing_class = 0
    if run.turn is not None:
        ageing_class = admission.class_of(
            party, spec.priority.rank, began_us=run.began_us, span_us=run.span_us
        )
    return admission.lane(
        run,
        request=request,
        quick=_may_be_quick(admission, run, spec, request),
        process=spec.isolation is Isolation.PROCESS,
        caps=_caps(run, step, spec),
        step=step if spec.max_parallel is not None else -1,
        pool=run.options.session,
        party=party,
        turn=run.turn,
        root=None if run.parent is None else run.parent.root,
        ageing_class=ageing_class,
    )


def _may_be_quick(admission: Admission, run: RunState, spec: StepSpec, request: Request) -> bool:
    """Whether several attempts may share a commit where they are known to be short."""
    return (
        spec.isolation is not Isolation.PROCESS
        and spec.effects != "unsafe"
        and request.plain
        and not (run.options.session is not None and admission.has_pool(run.options.session))
        and run.turn is None
    )


def _party(admission: Admission, run: RunState) -> Party | None:
    """Whose share of the machine a run counts for."""
    options = run.options
    if options.session is None:
        return None
    mode = None if options.mode is None else OrchestrationMode(options.mode)
    return admission.party(options.session, mode=mode, weight=options.weight, told_by=run.number)


def _task_name(plan: RunPlan, position: int) -> str:
    """`run/step` or `run/step[i]`, also for an item that this very plan makes."""
    step = plan.step_of(position)
    name = f"{plan.run.id}/{plan.run.workflow.names[step]}"
    items = plan.items_of(step) if position >= plan.run.step_count else None
    return name if items is None else f"{name}[{position - items[0]}]"


def _raised(request: Request, factor: float, capacities: Mapping[str, int]) -> Request:
    """The request of an attempt after others ran out of memory: more, in whole MiB, up to all there is."""
    mebibytes = ceil(request.memory_bytes * factor / MIB)
    most = capacities.get(MEMORY, 0) or mebibytes * MIB
    return replace(request, memory_bytes=max(request.memory_bytes, min(mebibytes * MIB, most)))


def _caps(run: RunState, step: int, spec: StepSpec) -> tuple[Cap, ...]:
    """The limits that hold for a step: its own, its run's, and those of the root of its tree."""
    caps: list[Cap] = []
    own = run.options.max_parallel or run.workflow.max_parallel
    if run.parent is not None:
        own = run.workflow.max_parallel
        if run.parent.root_cap is not None:
            caps.append(((run.parent.root, -1), run.parent.root_cap))
    if own is not None:
        caps.append(((run.number, -1), own))
    if spec.max_parallel is not None:
        caps.append(((run.number, step), spec.max_parallel))
    return tuple(caps)


Claimed = Callable[[Batch, Chunk, str], None]
"""Told of every chunk that holds named resources, with the name of its task."""


def admit(admission: Admission, batch: Batch, claimed: Claimed) -> None:
    """Starts what fits, lane by lane."""
    while (lane := admission.next_lane()) is not None:
        limit = 1
        if lane.quick and (each_s := quick_s(lane.run)) is not None:
            limit = max(1, min(CHUNK_LENGTH, int(QUICK_S / max(each_s, 1e-6))))
            waiting = admission.waiting_in(lane, CHUNK_LENGTH * 64)
            if lane.chunks and waiting * each_s < SPREAD_S:
                admission.set_aside(lane)  # whoever works on this lane now will soon drain and take it
                continue
            slots = admission.capacity.cpu_milli // max(1, lane.cpu_milli)
            if waiting * each_s >= SPREAD_S:
                limit = min(limit, max(1, -(-waiting // max(1, slots))))
        chunk = _fill_chunk(admission, batch, lane, limit)
        if chunk is not None and lane.request.named:
            claimed(batch, chunk, _task_name(batch.plan_for(lane.run), chunk.entries[0][0]))
    admission.take_back()


def _fill_chunk(admission: Admission, batch: Batch, lane: Lane, limit: int) -> Chunk | None:
    plan = batch.plan_for(lane.run)
    chunk = Chunk(lane.run, lane)
    entries = chunk.entries
    while lane.heap and len(entries) < limit:
        first, end = admission.take(lane, limit - len(entries))
        for position in range(first, end):
            if plan.state_of(position) == PENDING:
                entries.append((position, plan.start(position)))
        if lane.turn is not None:
            admission.follow(lane.turn, plan)
            if not entries:
                break  # the next of this lane may not be next in the plan
    if not entries:
        return None
    chunk.open = len(entries)
    chunk.claim = admission.claim(lane)
    batch.chunks.append(chunk)
    return chunk


def quick_s(run: RunState) -> float | None:
    """What an attempt of the slowest step of a run takes, where all are known to be quick; else None."""
    longest = max(run.typical_s)  # 0 where nothing but handlers, or steps without a slot, is known so far
    return longest if 0 < longest < QUICK_S and min(run.typical_s) >= 0 else None
