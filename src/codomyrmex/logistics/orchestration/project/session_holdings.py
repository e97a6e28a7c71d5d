"""What a session holds, and what its runs may therefore ask for.

Layer: beside the engine's machinery, above the stores and the ledger. A session holds what somebody allocated
under its id. Its runs are served out of that, for those resources that it has, so a step that asks for more
than all of it would wait for ever and is refused like any other impossible request.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import inf
from typing import Any

from codomyrmex.exceptions import Fault, ResourceRefused, ValidationError
from codomyrmex.logistics.orchestration.project import resource_store
from codomyrmex.logistics.orchestration.project.amount_words import amount_text
from codomyrmex.logistics.orchestration.project.compiled_workflow import CompiledWorkflow
from codomyrmex.logistics.orchestration.project.engine_host import EngineHost
from codomyrmex.logistics.orchestration.project.gpu_choice import choose
from codomyrmex.logistics.orchestration.project.ledger_shares import is_device
from codomyrmex.logistics.orchestration.project.resource_request import GPU, Request
from codomyrmex.logistics.orchestration.project.states import OrchestrationMode


def holding_of(host: EngineHost, session_id: str) -> dict[str, int]:
    """All that a session holds, whoever uses it now: {resource id: amount}, devices one by one."""
    now_us = host.clock.now_us()
    found = resource_store.held_by(host.database, session_id, now_us=now_us)
    for hold in host.ledger.holds(session_id):
        for id, amount in hold.amounts.items():
            found[id] = found.get(id, 0) + amount
    return found


def check_session(
    host: EngineHost,
    session_id: str | None,
    workflow: CompiledWorkflow | None = None,
    *,
    ordered: bool = False,
) -> None:
    """Raises `ValidationError` for a session that holds nothing, `ResourceRefused` where a step wants more.

    One that is `ordered` (its mode or weight is said), or was in an earlier run, need not hold anything.
    """
    if session_id is None:
        if ordered:
            fault = Fault(
                message="mode and weight are those of a session",
                path="session_id",
                advice="name a session too, or set order.mode for all that belongs to none",
            )
            raise ValidationError([fault], subject="the call")
        return
    holding = holding_of(host, session_id)
    if not holding and (ordered or host.knows_session(session_id)):
        return
    if not holding:
        fault = Fault(
            message="there is no such session: nobody with this id holds anything",
            path="session_id",
            got=repr(session_id),
            advice="leave session_id out, say its mode or weight, or let it hold something: "
            "resources.allocate_resources(session_id, {...})",
        )
        raise ValidationError([fault], subject="the call")
    if workflow is None:
        return
    ids = resource_store.ids(host.database)
    for step, name in enumerate(workflow.names):
        for id, amount in _beyond(workflow.spec(step).request, holding, ids):
            has = sum(held for each, held in holding.items() if each == id or (id == GPU and is_device(each)))
            raise ResourceRefused(
                f"step {name!r} asks for {amount_text(id, amount)} of {id}, and session {session_id!r} holds"
                f" {amount_text(id, has)}",
                hint="ask for less, or let the session hold more before its run starts",
            )


def session_order(mode: OrchestrationMode | str | None, weight: float | None) -> dict[str, Any]:
    """The options of a run that say how its session is ordered; `ValidationError` for what cannot be."""
    found: dict[str, Any] = {}
    if mode is not None:
        try:
            found["mode"] = OrchestrationMode(mode).value
        except ValueError:
            allowed = tuple(each.value for each in OrchestrationMode)
            fault = Fault(
                message="there is no such mode", path="session_mode", got=repr(mode), allowed=allowed
            )
            raise ValidationError([fault], subject="the call") from None
    if weight is not None:
        if not 0 < weight < inf:
            fault = Fault(message="a weight is a number above 0", path="session_weight", got=repr(weight))
            raise ValidationError([fault], subject="the call")
        found["weight"] = float(weight)
    return found


def _beyond(
    request: Request, holding: Mapping[str, int], ids: Mapping[str, str]
) -> Iterator[tuple[str, int]]:
    """What of a request the session has some of, but never enough."""
    devices = {id: amount for id, amount in holding.items() if is_device(id)}
    asked = [*request.machine(), *((ids.get(name, name), amount) for name, amount in request.named)]
    for id, amount in asked:
        if id == GPU:
            if devices and choose(devices, amount) is None:
                yield id, amount
        elif amount > holding.get(id, amount):
            yield id, amount
