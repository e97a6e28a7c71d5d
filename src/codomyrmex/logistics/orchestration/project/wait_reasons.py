"""Why something waits: each reason as data and as a sentence.

Layer: pure. A reason is a small frozen record; `to_dict` is what `--json` prints, `sentence` what people read,
a phrase that follows `x is pending: `. Amounts of resources are whole numbers in the smallest unit while they
are worked with, and natural ones (CPUs, bytes, devices, units) in both forms that leave. Whoever is named is
named at most three times; the rest is a number.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from typing import Any, ClassVar, Protocol

from codomyrmex.logistics.orchestration.project.amount_words import (
    LABELS,
    amount_text,
    listed,
    natural,
    period_text,
    unit_of,
)
from codomyrmex.logistics.orchestration.project.resource_request import UNIT
from codomyrmex.logistics.orchestration.project.run_views import clock_text

_STATE_FOLDER = "/.codomyrmex"
NAMED_AT_MOST = 3
"""So many steps or holders are named; of the others it is said how many they are."""


class Reason(Protocol):
    """One reason; `kind` is a word that programs may rely on."""

    kind: ClassVar[str]

    def sentence(self, now: datetime) -> str:
        """A phrase without a full stop; instants as the local time of day."""

    def to_dict(self) -> dict[str, Any]:
        """`kind` and every fact; instants as ISO 8601 texts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """What all reasons share."""

    kind: ClassVar[str] = ""

    def to_dict(self) -> dict[str, Any]:
        """`kind` and the fields."""
        return {"kind": self.kind, **plain_fields(self)}


# -- somebody --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who has some of a resource: a task, or whoever else allocated it."""

    who: str
    """`RUN/step[i]` of a task, else the name under which it was allocated."""
    amount: int
    since: datetime | None = None
    workflow: str | None = None
    """Of a task of another run."""
    engine: int | None = None
    pid: int | None = None

    def text(self, resource: str, now: datetime, *, amounts: bool = True) -> str:
        """`nightly k3f9/parse[4] (1.5 GiB, since 14:02:11)`."""
        name = f"{self.workflow} {self.who}" if self.workflow else self.who
        facts = [amount_text(resource, self.amount)] if amounts else []
        if self.since is not None:
            facts.append(f"since {clock_text(self.since, now)}")
        return f"{name} ({', '.join(facts)})" if facts else name


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherEngine:
    """An engine, or somebody, that has or awaits some of a resource; `state` is the folder of its state."""

    engine: int
    """Its epoch, or its number in the ledger of the host."""
    pid: int | None = None
    state: str | None = None
    who: str | None = None
    """Who allotted it by hand."""
    amount: int = 0
    since: datetime | None = None

    def text(self, resource: str, now: datetime) -> str:
        """`pid 4121 of /srv/b (2 CPUs, since 13:59:00)`."""
        who = self.who or (f"pid {self.pid}" if self.pid is not None else f"engine {self.engine}")
        where = f" of {self.state.removesuffix(_STATE_FOLDER)}" if self.state else ""
        since = f", since {clock_text(self.since, now)}" if self.since is not None else ""
        return f"{who}{where} ({amount_text(resource, self.amount)}{since})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """A step that another one waits for: how it stands, and in a few words why."""

    task: str
    status: str
    waits_for: str = ""

    @property
    def text(self) -> str:
        """`parse (running)`, `ask (waits for an answer)`."""
        return f"{self.task} ({self.waits_for or self.status})"


# -- what waits ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies(Fact):
    """Steps that it depends on have not ended."""

    kind: ClassVar[str] = "dependencies"
    steps: tuple[Upstream, ...]
    more: int = 0

    def sentence(self, now: datetime) -> str:
        """`waits for fetch (running), parse (blocked) and 7 more`."""
        return f"waits for {listed([each.text for each in self.steps], self.more)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceShort(Fact):
    """Not enough of a resource is free. Amounts are in its smallest unit (`resource_request`)."""

    kind: ClassVar[str] = "resource"
    resource: str
    """An id: `sys-memory`, `gpu`, or that of a named resource."""
    name: str
    asked: int
    free: int
    capacity: int
    holders: tuple[Holder, ...] = ()
    more_holders: int = 0
    ahead: tuple[OtherEngine, ...] = ()
    """Engines that have waited for it longer."""
    offline: bool = False
    session: str | None = None
    """Of whose holding it is short, where a session serves its own runs."""

    @property
    def short_by(self) -> int:
        """How much is missing."""
        return max(0, self.asked - (0 if self.offline else self.free))

    def to_dict(self) -> dict[str, Any]:
        """Amounts in natural units, which `unit` names."""
        whole = plain_fields(self)
        for key in ("asked", "free", "capacity"):
            whole[key] = natural(self.resource, whole[key])
        for row in (*whole["holders"], *whole["ahead"]):
            row["amount"] = natural(self.resource, row["amount"])
        whole["short_by"] = natural(self.resource, self.short_by)
        return {"kind": self.kind, "unit": unit_of(self.resource), **whole}

    def sentence(self, now: datetime) -> str:
        """`waits for memory: it asks for 2 GiB, 512 MiB of 8 GiB are free; held by ... and 2 others`."""
        label = LABELS.get(self.resource, self.name)
        if self.offline:
            return f"waits for {label}, which is offline (codomyrmex resources online {self.name})"
        parts = [self._figures(label if self.session is None else f"{label} of session {self.session}")]
        alone = self.resource not in LABELS and self.capacity == UNIT
        if self.holders:
            held = [each.text(self.resource, now, amounts=not alone) for each in self.holders[:2]]
            others = len(self.holders) - len(held) + self.more_holders
            parts.append(f"held by {listed(held, others, 'other')}")
        parts += [f"{each.text(self.resource, now)} has waited for it longer" for each in self.ahead[:1]]
        return "; ".join(part for part in parts if part)

    def _figures(self, label: str) -> str:
        if self.resource not in LABELS and self.capacity == UNIT == self.asked:
            return f"waits for {label}, of which there is one"
        asked, free, whole = (
            amount_text(self.resource, each) for each in (self.asked, self.free, self.capacity)
        )
        if self.asked > self.capacity:
            return f"waits for {label}: it asks for {asked}, and there is no more than {whole}"
        missing = f", {amount_text(self.resource, self.short_by)} too little" if asked == free else ""
        free = "nothing" if self.free <= 0 else free
        verb = "is" if self.free <= 0 or natural(self.resource, self.free) == 1 else "are"
        return f"waits for {label}: it asks for {asked}, {free} of {whole} {verb} free{missing}"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaUsed(Fact):
    """A quota lets so much through again at `retry_at`."""

    kind: ClassVar[str] = "quota"
    resource: str
    name: str
    asked: int
    capacity: int
    per_s: float
    retry_at: datetime | None = None
    """None: never, as long as the quota is what it is."""
    offline: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Amounts in units."""
        whole = plain_fields(self)
        whole |= {key: natural(self.resource, whole[key]) for key in ("asked", "capacity")}
        return {"kind": self.kind, **whole}

    def sentence(self, now: datetime) -> str:
        """`waits for the quota openai (60 per minute): it asks for 2; that passes at 14:05:10`."""
        head = f"waits for the quota {self.name}"
        if self.offline:
            return f"{head}, which is offline (codomyrmex resources online {self.name})"
        asked = amount_text(self.resource, self.asked)
        rate = f"{amount_text(self.resource, self.capacity)} per {period_text(self.per_s)}"
        if self.retry_at is None:
            return f"{head} ({rate}): it asks for {asked} at once, which it never lets through"
        return f"{head} ({rate}): it asks for {asked}; that passes at {clock_text(self.retry_at, now)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherEngines(Fact):
    """What the machine has is allotted to other engines, those of other projects included."""

    kind: ClassVar[str] = "other_engines"
    resource: str
    asked: int
    free: int
    capacity: int
    engines: tuple[OtherEngine, ...] = ()
    more: int = 0
    waits_before: int = 0
    """So many other engines have waited for it longer."""

    def to_dict(self) -> dict[str, Any]:
        """Amounts in natural units."""
        whole = plain_fields(self)
        whole |= {key: natural(self.resource, whole[key]) for key in ("asked", "free", "capacity")}
        for row in whole["engines"]:
            row["amount"] = natural(self.resource, row["amount"])
        return {"kind": self.kind, "unit": unit_of(self.resource), **whole}

    def sentence(self, now: datetime) -> str:
        """`waits for CPU: it asks for 1 CPU; the machine's 2 CPUs are shared with pid 4121 of /srv/b (2 CPUs)`."""
        label = LABELS.get(self.resource, self.resource)
        asked, whole = (amount_text(self.resource, each) for each in (self.asked, self.capacity))
        parts = [f"waits for {label}: it asks for {asked}"]
        if self.engines:
            held = listed(
                [each.text(self.resource, now) for each in self.engines[:2]], self._others(), "engine"
            )
            parts.append(f"the machine's {whole} are shared with {held}")
        if self.waits_before == 1:
            parts.append("another engine has waited for it longer")
        elif self.waits_before:
            parts.append(f"{self.waits_before} other engines have waited for it longer")
        return "; ".join(parts)

    def _others(self) -> int:
        return self.more + max(0, len(self.engines) - 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxWorkers(Fact):
    """Its engine runs as many attempts as it may."""

    kind: ClassVar[str] = "max_workers"
    limit: int
    running: int
    engine: int
    tasks: tuple[str, ...] = ()
    more: int = 0

    def sentence(self, now: datetime) -> str:
        """`waits for a worker: its engine runs 8 tasks, which is its max_workers (a, b, c and 5 more)`."""
        named = f" ({listed(list(self.tasks), self.more)})" if self.tasks else ""
        noun = "task" if self.running == 1 else "tasks"
        return f"waits for a worker: its engine runs {self.running} {noun}, which is its max_workers{named}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxParallel(Fact):
    """A `max_parallel` is reached: `scope` is step, run or root (the run at the top of its tree)."""

    kind: ClassVar[str] = "max_parallel"
    scope: str
    limit: int
    of: str
    """The step or the run whose limit it is."""
    tasks: tuple[str, ...] = ()
    more: int = 0

    def sentence(self, now: datetime) -> str:
        """`waits for its turn: max_parallel of parse is 2, and parse[0], parse[1] are open`."""
        whose = {"step": f"of {self.of}", "run": "of its run", "root": f"of run {self.of} above it"}[
            self.scope
        ]
        verb = "is" if len(self.tasks) + self.more == 1 else "are"
        named = f", and {listed(list(self.tasks), self.more)} {verb} at work" if self.tasks else ""
        return f"waits for its turn: max_parallel {whose} is {self.limit}{named}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConcurrencyKey(Fact):
    """Its run waits for an older one that has the same concurrency key."""

    kind: ClassVar[str] = "concurrency"
    key: str
    run: str
    workflow: str
    status: str
    since: datetime | None = None
    cancelling: bool = False
    more: int = 0
    """So many more runs are before it."""

    def sentence(self, now: datetime) -> str:
        """`waits for run k3f9 of nightly, which has the concurrency key 'main' since 14:02:11`."""
        since = f" since {clock_text(self.since, now)}" if self.since is not None else ""
        more = f" ({self.more} more {'is' if self.more == 1 else 'are'} before it)" if self.more else ""
        ending = " and was asked to cancel" if self.cancelling else ""
        text = f"waits for run {self.run} of {self.workflow}, which has the concurrency key {self.key!r}"
        return f"{text}{since}{ending}{more}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate(Fact):
    """Its run is stored and has not begun."""

    kind: ClassVar[str] = "gate"

    def sentence(self, now: datetime) -> str:
        """What happens next."""
        return "its run has not begun; its engine takes it up next"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timer(Fact):
    """A time has to pass: `why` is sleep or retry; then `attempt` is the one that failed, `error` how."""

    kind: ClassVar[str] = "timer"
    why: str
    until: datetime | None
    attempt: int = 0
    error: str = ""

    def sentence(self, now: datetime) -> str:
        """`sleeps until 14:02:11`, `attempt 2 failed (TimeoutError: slow), the next follows at 14:02:11`."""
        when = clock_text(self.until, now)
        if self.why == "sleep":
            return f"sleeps until {when}"
        how = f" ({self.error})" if self.error else ""
        return f"attempt {self.attempt} failed{how}, the next follows at {when}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Fact):
    """Somebody has to answer; `recorded_by` did, and the run has not read it yet."""

    kind: ClassVar[str] = "approval"
    run: str
    task: str
    question: str
    who: tuple[str, ...] = ()
    until: datetime | None = None
    recorded_by: str | None = None

    def sentence(self, now: datetime) -> str:
        """`waits for an answer of alice until 15:02:11: Ship it? (codomyrmex approvals answer k3f9 ask)`."""
        question = " ".join(self.question.split())
        if self.recorded_by is not None:
            return f"{self.recorded_by} has answered ({question}), and the run has not read it yet"
        whose = f" of {', '.join(self.who)}" if self.who else ""
        until = f" until {clock_text(self.until, now)}" if self.until is not None else ""
        command = f"codomyrmex approvals answer {self.run} {self.task}"
        return f"waits for an answer{whose}{until}: {question} ({command})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal(Fact):
    """A signal has to be sent; `recorded_by` sent it, and the run has not read it yet."""

    kind: ClassVar[str] = "signal"
    run: str
    name: str
    until: datetime | None = None
    recorded_by: str | None = None

    def sentence(self, now: datetime) -> str:
        """`waits for signal go until 15:02:11 (codomyrmex runs signal k3f9 go)`."""
        if self.recorded_by is not None:
            return f"{self.recorded_by} has sent signal {self.name}, and the run has not read it yet"
        until = f" until {clock_text(self.until, now)}" if self.until is not None else ""
        return f"waits for signal {self.name}{until} (codomyrmex runs signal {self.run} {self.name})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Child(Fact):
    """The run that it started has not ended; `waits` is what that one waits for."""

    kind: ClassVar[str] = "child"
    run: str
    workflow: str
    status: str
    waits: tuple[str, ...] = ()
    """A phrase for each of its tasks that waits for something, at most three."""

    def sentence(self, now: datetime) -> str:
        """`waits for run k3f9 of child, which is running: nap waits for signal wake`."""
        text = f"waits for the end of run {self.run} of {self.workflow}, which is {self.status}"
        return f"{text}: {'; '.join(self.waits)}" if self.waits else f"{text} (codomyrmex explain {self.run})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Paused(Fact):
    """Its run was asked to pause."""

    kind: ClassVar[str] = "paused"
    run: str
    since: datetime | None = None
    by: str | None = None

    def sentence(self, now: datetime) -> str:
        """`the run is paused since 14:02:11 by alice; codomyrmex resume k3f9 goes on`."""
        return f"the run is paused{self.asked_text(now)}; codomyrmex resume {self.run} goes on"

    def asked_text(self, now: datetime) -> str:
        """` since 14:02:11 by alice`, as far as it is known."""
        since = f" since {clock_text(self.since, now)}" if self.since is not None else ""
        return since + (f" by {self.by}" if self.by else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class NoOwner(Fact):
    """Its engine is dead."""

    kind: ClassVar[str] = "no_owner"
    run: str
    engine: int
    pid: int | None = None

    def sentence(self, now: datetime) -> str:
        """What goes on with it."""
        pid = f" (pid {self.pid})" if self.pid is not None else ""
        return f"its engine{pid} is gone; codomyrmex resume {self.run} goes on where it was"


@dataclass(frozen=True, slots=True, kw_only=True)
class LaterPhase(Fact):
    """It belongs to a part of the run that has not begun: `phase` is compensating, on_failure or finally."""

    kind: ClassVar[str] = "phase"
    phase: str
    now_in: str

    def sentence(self, now: datetime) -> str:
        """When it would run."""
        when = {
            "compensating": "it runs only to undo its step after a failure or a cancel",
            "on_failure": "it runs only when the steps have failed",
        }
        return when.get(self.phase, "it runs when all else of the run has ended")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order(Fact):
    """Compensation goes one after the other."""

    kind: ClassVar[str] = "order"
    after: str

    def sentence(self, now: datetime) -> str:
        """Who is before it."""
        return f"waits until {self.after} has ended: what has completed is undone one after the other"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRoom(Fact):
    """Its engine keeps room for a task that has waited very long: for this one (`mine`), or for another."""

    kind: ClassVar[str] = "kept_room"
    run: str
    workflow: str
    task: str
    since: datetime
    mine: bool = False

    def sentence(self, now: datetime) -> str:
        """For whom, and since when it has waited."""
        since = clock_text(self.since, now)
        if self.mine:
            return f"it has waited since {since}, so what becomes free is kept for it"
        who = f"{self.workflow} {self.run}/{self.task}"
        return f"{who} goes first: it has waited since {since}, and room is kept for it"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanTurn(Fact):
    """Its run follows a plan in which another task goes before it."""

    kind: ClassVar[str] = "plan_turn"
    after: str

    def sentence(self, now: datetime) -> str:
        """Who is next."""
        return f"its run follows a plan, and {self.after} begins before it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping(Fact):
    """It runs although its run is to end."""

    kind: ClassVar[str] = "stopping"
    why: str
    isolation: str

    def sentence(self, now: datetime) -> str:
        """How it can end."""
        if self.isolation == "process":
            return f"asked to stop ({self.why}); it is ended after its grace"
        return f"asked to stop ({self.why}); a {self.isolation} task runs on until it looks or returns"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready(Fact):
    """Nothing is known to hold it back; `asks` is what it claims."""

    kind: ClassVar[str] = "ready"
    asks: tuple[str, ...] = ()

    def sentence(self, now: datetime) -> str:
        """What it will claim."""
        asked = f" (it asks for {listed(list(self.asks), 0)})" if self.asks else ""
        return f"ready, starts when its engine has room for it{asked}"


def plain_fields(record: Any) -> dict[str, Any]:
    """The fields of a record as JSON has them, records in it included."""
    return {field.name: _plain(getattr(record, field.name)) for field in fields(record)}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return plain_fields(value) if is_dataclass(value) and not isinstance(value, type) else value
