"""What can happen to an engine: the entries of its inbox.

Layer: beside the drain; plain values. Whoever learns something appends one of these and sees to it that
somebody drains. An entry stays in the inbox until the transaction that deals with it has succeeded, so it
is never changed on the way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Event
from typing import Any

from codomyrmex.exceptions import CodomyrmexError
from codomyrmex.logistics.orchestration.project.admission import NO_CLAIM, Claim, Lane
from codomyrmex.logistics.orchestration.project.executors.attempt import Outcome
from codomyrmex.logistics.orchestration.project.resource_request import Grant
from codomyrmex.logistics.orchestration.project.run_state import RunState
from codomyrmex.logistics.orchestration.project.states import RunIntent, WorkflowStatus

Entry = tuple[int, int]
"""Position and attempt number."""


@dataclass(slots=True, eq=False, repr=False)
class Chunk:
    """What one slot works through: committed attempts of one run, begun in order.

    The slot takes entries from the left; the drain may take back from the right what has not begun.
    `open` counts the entries whose end has not been committed; only the drain changes it.
    """

    run: RunState
    lane: Lane
    entries: deque[Entry] = field(default_factory=deque)
    open: int = 0
    begun_s: float = 0.0
    """When the slot began its present entry (monotonic); 0 before the first."""
    now_running: Entry | None = None
    claim: Claim = NO_CLAIM
    held: tuple[str, ...] = ()
    """The named resources that it holds rows of."""

    @property
    def grant(self) -> Grant:
        """What its attempts may use."""
        machine = self.claim.machine
        return Grant(request=self.lane.request, gpus=() if machine is None else machine.gpus)


@dataclass(slots=True, eq=False, repr=False)
class Woken:
    """Nothing has happened to a run, but something may fit now that did not, or has to be given back."""


@dataclass(slots=True, eq=False, repr=False)
class Arrival:
    """An attempt has ended."""

    chunk: Chunk
    position: int
    number: int
    outcome: Outcome


@dataclass(slots=True, eq=False, repr=False)
class Recall:
    """Attempts that were taken back from a chunk before they began; `at` is the one it was working on."""

    chunk: Chunk
    entries: list[Entry]
    at: Entry | None = None


@dataclass(slots=True, eq=False, repr=False)
class Submission:
    """A new run. `accepted` is set when it is stored, or refused with `error`."""

    run: RunState
    document: Mapping[str, Any]
    accepted: Event = field(default_factory=Event)
    error: CodomyrmexError | None = None


@dataclass(slots=True, eq=False, repr=False)
class Adoption:
    """A run of a dead engine, read from the store; `lost` are the attempts that died with it."""

    run: RunState
    lost: list[tuple[int, int]]
    stop: RunIntent = RunIntent.NONE
    """What a run that has not begun was asked before it could: nothing of it starts."""
    skipped: str | None = None
    """Why a run does not begin at all."""


@dataclass(slots=True, eq=False, repr=False)
class StopAsked:
    """Somebody wants a run to end; `intents` are the rows of the store that said so."""

    run_number: int
    intent: RunIntent
    intents: tuple[int, ...] = ()


@dataclass(slots=True, eq=False, repr=False)
class PauseAsked:
    """Somebody wants a run to pause, or with `on` False to go on."""

    run_number: int
    on: bool
    intents: tuple[int, ...] = ()


@dataclass(slots=True, eq=False, repr=False)
class SignalSent:
    """Somebody sent a run a signal; `data` is tagged JSON."""

    run_number: int
    name: str
    data: bytes
    by: str
    intents: tuple[int, ...] = ()


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class Answered:
    """Somebody answered an approval, named by its task; the answer has been checked against its form."""

    run_number: int
    task: str
    approved: bool
    data: Any
    by: str
    comment: str | None = None
    intents: tuple[int, ...] = ()


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class ChildEnded:
    """The run that an attempt of a task started is terminal; `outputs` and `error` are as its row has them."""

    run_number: int
    position: int
    attempt: int
    id: str
    status: WorkflowStatus
    outputs: str | None
    error: str | None


@dataclass(slots=True, eq=False, repr=False)
class Due:
    """A deadline has passed that was set for `ready_us`: of a task, or (position -1) of the run."""

    run_number: int
    position: int
    ready_us: int


Asked = StopAsked | PauseAsked | SignalSent | Answered
News = Woken | Arrival | Recall | Submission | Adoption | Asked | ChildEnded | Due
