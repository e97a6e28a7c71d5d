"""The inbox: what people are asked, and whether an answer may stand.

Layer: above storage, beside the readers. An answer is checked here before it is sent to the engine that owns
the run: by who gives it, and by the form that it is to fill in. The engine then takes the first one that
comes. Names are what the doors say: a login name, or one that was claimed and is recorded as such.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from codomyrmex.clock import to_datetime
from codomyrmex.exceptions import Conflict, Fault, NotAllowed, ValidationError
from codomyrmex.logistics.storage.database import Database, Row

_COLUMNS = """
SELECT run.id, run.workflow, run.number, approval.position, approval.message, approval.form, approval.who,
    approval.opened_at, approval.due_at, approval.status, approval.answer, approval.answered_by, approval.comment,
    approval.answered_at
FROM approval JOIN run ON run.number = approval.run
"""
LIST_OPEN = f"""
{_COLUMNS} WHERE approval.status = 'open' AND run.status IN ('pending', 'running', 'paused')
ORDER BY approval.opened_at, run.number, approval.position
"""
LIST_ALL = f"{_COLUMNS} ORDER BY approval.opened_at DESC, run.number DESC, approval.position LIMIT ?"
FIND = f"{_COLUMNS} WHERE approval.run = ? AND approval.position = ?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answerer:
    """Who answers: a name, the login behind it where it was only claimed, and whether it is an agent."""

    name: str
    claimed_by: str | None = None
    agent: bool = False

    @property
    def recorded(self) -> str:
        """How the journal names them."""
        return self.name if self.claimed_by is None else f"{self.name} (as claimed by {self.claimed_by})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """One question; `status` is open, approved, rejected, timed_out or withdrawn. `who` empty: anybody may answer."""

    run_id: str
    workflow: str
    run: int
    position: int
    message: str
    form: dict[str, Any] | None
    who: tuple[str, ...]
    opened_at: datetime
    due_at: datetime | None
    status: str
    answer: Any
    answered_by: str | None
    comment: str | None
    answered_at: datetime | None


def list_open(database: Database) -> list[Approval]:
    """What waits for an answer, oldest first."""
    return [_approval(row) for row in database.query(LIST_OPEN)]


def list_all(database: Database, limit: int) -> list[Approval]:
    """Every question ever asked, newest first, at most `limit`."""
    return [_approval(row) for row in database.query(LIST_ALL, (limit,))]


def find(database: Database, run: int, position: int) -> Approval | None:
    """The question of one task, by the numbers of run and position."""
    rows = database.query(FIND, (run, position))
    return _approval(rows[0]) if rows else None


def check_answer(question: Approval, who: Answerer, *, approved: bool, data: Any) -> None:
    """Raises `Conflict` when it is closed, `NotAllowed` for who may not, `ValidationError` against the form."""
    if question.status != "open":
        by = f" by {question.answered_by}" if question.answered_by else ""
        raise Conflict(f"this approval is not open any more: {question.status}{by}")
    if question.who and who.name not in question.who:
        raise NotAllowed(
            f"{who.name!r} may not answer this; who may: {', '.join(question.who)}",
            hint="answer as one of them: --as NAME (it is recorded as claimed)",
        )
    if who.agent and not question.who:
        raise NotAllowed("an agent may answer only where `who` names it", hint="ask a person")
    if not approved:
        return
    if question.form is None:
        if data is not None:
            fault = Fault(
                message="this approval has no form, so no data goes with it", code="no_form", path="data"
            )
            raise ValidationError([fault], subject="the answer")
        return
    faults = form_faults(question.form, {} if data is None else data)
    if faults:
        raise ValidationError(faults, subject="the answer")


def form_faults(form: dict[str, Any], data: Any) -> list[Fault]:
    """Every way in which data break a form (a JSON Schema), each with its place."""
    import jsonschema_rs

    checker = jsonschema_rs.validator_for(form)
    found = []
    for error in checker.iter_errors(data):
        place = ".".join(["data", *(str(part) for part in error.instance_path)])
        found.append(Fault(message=error.message, code="form", path=place))
    return found


def _approval(row: Row) -> Approval:
    return Approval(
        run_id=row[0],
        workflow=row[1],
        run=row[2],
        position=row[3],
        message=row[4],
        form=msgspec.json.decode(row[5]) if row[5] else None,
        who=tuple(msgspec.json.decode(row[6])),
        opened_at=to_datetime(row[7]),
        due_at=to_datetime(row[8]) if row[8] is not None else None,
        status=row[9],
        answer=msgspec.json.decode(row[10]) if row[10] else None,
        answered_by=row[11],
        comment=row[12],
        answered_at=to_datetime(row[13]) if row[13] is not None else None,
    )
