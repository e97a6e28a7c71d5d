"""Room that is kept for a task that has waited too long: who may still pass it.

Layer: pure. Without this a task that asks for the whole machine would wait for as long as small ones come. The rule
goes dimension by dimension and needs to know nothing of durations: of what the waiting one lacks nobody takes any,
and of what there is enough of, others take only what leaves enough. So work that needs something else flows past.

Of CPU, memory, disk and network nothing is kept before all else that it asks for is free: a machine must not stand
still because somebody waits for a lock, or for a device that is busy for hours.
"""

from __future__ import annotations

from codomyrmex.logistics.orchestration.project.machine_share import MachineShare
from codomyrmex.logistics.orchestration.project.named_resources import NamedResources
from codomyrmex.logistics.orchestration.project.resource_request import GPU
from codomyrmex.logistics.orchestration.project.shapes import Shape


def may_pass(
    shape: Shape,
    kept_for: Shape,
    share: MachineShare,
    named: NamedResources,
    workers: int,
    *,
    more: bool = False,
) -> bool:
    """Whether one attempt of `shape` may start without delaying one of `kept_for`.

    `more` where what this engine was not allotted of the machine has only to be asked for: it is as good as free.
    """
    if workers < 2:
        return False
    asked = dict(shape.named)
    lacks = False
    for name, amount in kept_for.named:
        mine = asked.get(name, 0)
        if mine and not named.leaves(name, mine, amount):
            return False
        lacks = lacks or not named.leaves(name, 0, amount)
    if kept_for.gpu:
        if shape.gpu and not _leaves_devices(share, shape, kept_for):
            return False
        lacks = lacks or not _has(share, GPU, kept_for.gpu, kept_for.pool, more=more)
    if lacks:
        return True
    own = {share.source(id, shape.pool): amount for id, amount in shape.asks if id != GPU}
    for id, amount in kept_for.asks:
        mine = own.get(share.source(id, kept_for.pool), 0)
        if mine and share.left(id, kept_for.pool, more=more) - mine < amount:
            return False
    return True


def takes_what_lacks(
    shape: Shape, lacking: Shape, share: MachineShare, named: NamedResources, *, more: bool = False
) -> bool:
    """Whether an attempt of `shape` would take of something of which `lacking` has not enough."""
    asked = dict(shape.named)
    if any(asked.get(name) and not named.leaves(name, 0, amount) for name, amount in lacking.named):
        return True
    own = {share.source(id, shape.pool) for id, amount in shape.asks if amount}
    return any(
        share.source(id, lacking.pool) in own and not _has(share, id, amount, lacking.pool, more=more)
        for id, amount in lacking.asks
    )


def _has(share: MachineShare, id: str, amount: int, pool: str | None, *, more: bool) -> bool:
    return share.has(id, amount, pool) or (more and share.missing(id, amount, pool) is not None)


def _leaves_devices(share: MachineShare, shape: Shape, kept_for: Shape) -> bool:
    """Whether devices can be taken so that what is kept is as much to be had as before."""
    if not share.has(GPU, kept_for.gpu, kept_for.pool) or not share.has(GPU, shape.gpu, shape.pool):
        return False
    taken = share.take(((GPU, shape.gpu),), shape.pool)
    try:
        return share.has(GPU, kept_for.gpu, kept_for.pool)
    finally:
        share.count(taken, -1)
