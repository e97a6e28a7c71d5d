"""What is said of a task: why it waits, or why it ended as it did; and of a failed run, what it failed for.

Layer: pure; beside `wait_reasons`. An *explanation* is a task with its reasons, and may stand for others that have
the same. A *failure* keeps apart what failed by itself (the roots) from what only did not run because of it
(the cascade), so that nobody has to look for the one among the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from codomyrmex.logistics.orchestration.project.amount_words import listed
from codomyrmex.logistics.orchestration.project.run_views import clock_text
from codomyrmex.logistics.orchestration.project.wait_reasons import (
    NAMED_AT_MOST,
    Fact,
    Reason,
    plain_fields,
)

NAMED_HANDLERS = 5
"""So many of the steps that ran because of a failure are named."""


def standing_text(status: str) -> str:
    """`is pending`, `has failed`."""
    return "has failed" if status == "failed" else f"is {status}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended(Fact):
    """Why a task was skipped or cancelled, or had nothing to do: `why` is the reason's word."""

    kind: ClassVar[str] = "ended"
    why: str
    text: str
    because: tuple[str, ...] = ()
    """The tasks that it follows from."""
    by: str | None = None
    at: datetime | None = None

    def sentence(self, now: datetime) -> str:
        """`the run was cancelled by alice at 14:02:11`."""
        by = f" by {self.by}" if self.by else ""
        at = f" at {clock_text(self.at, now)}" if self.at is not None else ""
        return f"{self.text}{by}{at}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed(Fact):
    """A task failed by itself, in its last attempt."""

    kind: ClassVar[str] = "failed"
    type: str
    message: str
    outcome: str = "failed"
    """failed, timed_out, crashed, out_of_memory, rejected..."""
    attempts: int = 0
    frame: str | None = None
    log_path: str | None = None
    child: str | None = None
    """The run that it started, and that failed."""

    def sentence(self, now: datetime) -> str:
        """`timed out in attempt 2: TimedOut: it took longer than 30 s`."""
        how = "" if self.outcome == "failed" else f"{self.outcome.replace('_', ' ')} "
        attempt = f"in attempt {self.attempts}" if self.attempts else ""
        head = f"{how}{attempt}".strip()
        return f"{head}: {self.error_text}" if head else self.error_text

    @property
    def error_text(self) -> str:
        """`ValueError: bad header, at load.py:12 read`, or where to look on."""
        lines = self.message.strip().splitlines()
        kind = self.type.rpartition(".")[2]
        said = ": ".join(part for part in (kind, lines[0] if lines else "") if part)
        where = f", at {self.frame}" if self.frame else ""
        child = f" (codomyrmex explain {self.child})" if self.child else ""
        return f"{said}{where}{child}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """One task and its reasons; it may stand for `others`, which have the same."""

    task: str
    status: str
    reasons: tuple[Reason, ...] = ()
    attempt: int = 0
    note: str = ""
    """What else is to be said: how far the items of a fan-out are."""
    others: tuple[str, ...] = ()
    more: int = 0
    """So many others beside those that are named."""

    def sentence(self, now: datetime) -> str:
        """`parse is pending: waits for memory: ...`, `parse[3] failed in attempt 2: ValueError: ...`"""
        if self.status == "failed" and not self.note and len(self.reasons) == 1 and not self.others:
            reason = self.reasons[0]
            if isinstance(reason, Failed):
                return f"{Root(task=self.task, failed=reason).text()}."
        said = [self.note] if self.note else []
        said += [reason.sentence(now) for reason in self.reasons]
        if not self.others:
            head = f"{self.task} {standing_text(self.status)}"
            return f"{head}: {'; '.join(said)}." if said else f"{head}."
        head = f"{listed([self.task, *self.others], self.more)} are {self.status}"
        return f"{head}, each: {'; '.join(said)}." if said else f"{head}."

    def to_dict(self, now: datetime) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "task": self.task,
            "status": self.status,
            "attempt": self.attempt,
            "others": list(self.others),
            "more": self.more,
            "reasons": [{**reason.to_dict(), "sentence": reason.sentence(now)} for reason in self.reasons],
            "sentence": self.sentence(now),
        }


# -- a failure -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """A task that failed by itself."""

    task: str
    failed: Failed
    at: datetime | None = None
    phase: str = "main"

    def text(self) -> str:
        """`parse[1] failed in attempt 3: ValueError: bad header, at load.py:12 read`."""
        failed = self.failed
        how = "failed" if failed.outcome == "failed" else failed.outcome.replace("_", " ")
        attempt = f" in attempt {failed.attempts}" if failed.attempts else ""
        return f"{self.task} {'' if how == 'failed' else 'failed, '}{how}{attempt}: {failed.error_text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cascade:
    """Tasks that did not run, or were stopped, for one reason."""

    why: str
    """upstream, trigger_rule, fail_fast, item_failed, timeout."""
    steps: int
    items: int
    names: tuple[str, ...]
    """The first of the steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """A step that ran because of the failure; `phase` is compensating or on_failure."""

    task: str
    phase: str
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What a run failed for, what did not run because of it, and what was done about it."""

    type: str = ""
    message: str = ""
    """Where it is none of its tasks that failed: its time was over, or its outputs could not be worked out."""
    roots: tuple[Root, ...] = ()
    more_roots: int = 0
    cascade: tuple[Cascade, ...] = ()
    handlers: tuple[Handler, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return plain_fields(self)

    def sentences(self) -> list[str]:
        """The roots first, then what did not run because of them, then what ran because of them."""
        said = []
        if self.message:
            said.append(f"{self.message}.")
        said += [f"{root.text()}." for root in self.roots]
        if self.roots and self.roots[0].failed.log_path:
            said.append(f"The log of {self.roots[0].task}: {self.roots[0].failed.log_path}")
        if self.more_roots == 1:
            said.append("1 more task failed by itself.")
        elif self.more_roots:
            said.append(f"{self.more_roots:,} more tasks failed by themselves.")
        said += self._because_of_it()
        if self.handlers:
            done = [f"{each.task} ({each.status})" for each in self.handlers[:NAMED_HANDLERS]]
            more = len(self.handlers) - len(done)
            said.append(f"After it ran: {listed(done, more)}.")
        return said

    def _because_of_it(self) -> list[str]:
        steps = sum(each.steps for each in self.cascade)
        items = sum(each.items for each in self.cascade)
        if not steps and not items:
            return []
        names = list(dict.fromkeys(name for each in self.cascade for name in each.names))[:NAMED_AT_MOST]
        parts = []
        if steps:
            parts.append(f"{steps:,} {'step' if steps == 1 else 'steps'}")
        if items:
            parts.append(f"{items:,} {'item' if items == 1 else 'items'}")
        named = f" ({listed(names, steps - len(names))})" if names else ""
        return [f"Because of it {' and '.join(parts)} did not run{named}."]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunExplanation:
    """Everything that is said of a run, or of one of its tasks; `more` explanations were left out."""

    run: str
    workflow: str
    status: str
    about: tuple[str, ...]
    """How the run stands, in sentences."""
    task: str | None = None
    holds: tuple[Reason, ...] = ()
    """What holds the whole run."""
    reasons: tuple[Explanation, ...] = ()
    more: int = 0
    failure: Failure | None = None

    def sentences(self, now: datetime) -> list[str]:
        """The run, then what it failed for, then its tasks."""
        said = list(self.about)
        if self.failure is not None and self.task is None:
            said += self.failure.sentences()
        said += [each.sentence(now) for each in self.reasons]
        if self.more:
            said.append(f"... and {self.more:,} more; name a task to hear of it.")
        return said

    def to_dict(self, now: datetime) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "execution_id": self.run,
            "run": self.run,
            "workflow": self.workflow,
            "status": self.status,
            "task": self.task,
            "holds": [{**each.to_dict(), "sentence": each.sentence(now)} for each in self.holds],
            "reasons": [each.to_dict(now) for each in self.reasons],
            "more": self.more,
            "failure": self.failure.to_dict() if self.failure is not None else None,
            "sentences": self.sentences(now),
        }
