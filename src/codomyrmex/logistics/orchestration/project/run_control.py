"""What one may do to a run: cancel, pause, resume, signal, answer.

Layer: above the engine's machinery. With a host, a run that is live in it hears at once. Everybody else's run
gets the wish as a row of the state, which its engine reads; so does one whose engine is dead, and it is dealt
with when the run is taken up again. Nothing here waits for the effect.
"""

from __future__ import annotations

from collections.abc import Callable
from getpass import getuser
from pathlib import Path
from typing import Any

from codomyrmex.exceptions import Conflict, Fault, TaskNotFound, ValidationError
from codomyrmex.logistics.orchestration.project import approvals
from codomyrmex.logistics.orchestration.project.approvals import Answerer
from codomyrmex.logistics.orchestration.project.run_reader import RunReader
from codomyrmex.logistics.orchestration.project.run_views import RunView
from codomyrmex.logistics.orchestration.project.states import StepKind
from codomyrmex.logistics.orchestration.project.values import to_tagged
from codomyrmex.logistics.orchestration.project.wish_sending import ask_owner
from codomyrmex.logistics.storage.database import Database

Here = Callable[[str, str, dict[str, Any], str], bool]
"""Brings (run id, kind, payload, by) to a run that is live in this process; False where it is not."""


def answerer(name: str | None) -> Answerer:
    """Who answers at this machine: the login name, or another one that it claims."""
    login = getuser()
    if name is None or name == login:
        return Answerer(name=login)
    return Answerer(name=name, claimed_by=login)


class RunControl:
    """See the module. `here` is None for a client without an engine."""

    def __init__(
        self,
        database: Database,
        state_dir: Path | None,
        reader: RunReader,
        *,
        now_us: Callable[[], int],
        here: Here | None = None,
    ) -> None:
        self._database = database
        self._state_dir = state_dir
        self._reader = reader
        self._now_us = now_us
        self._here = here

    def pause(self, run_id: str) -> None:
        """Starts nothing more of a run until it is resumed; what runs ends. Idempotent; `Conflict` for an ended run."""
        self._open(run_id, "paused")
        self.send(run_id, "pause")

    def resume(self, run_id: str) -> None:
        """Goes on with a paused run. Idempotent; `Conflict` for an ended run."""
        self._open(run_id, "resumed")
        self.send(run_id, "resume")

    def signal(self, run_id: str, name: str, data: Any = None, *, by: str | None = None) -> None:
        """Sends a signal with data (JSON-able); raises `Conflict` for an ended run, `ValidationError` for a wrong name.

        It is kept: a step that only waits for it later finds it there.
        """
        self._open(run_id, "signalled")
        known = self._reader.signal_names(run_id)
        if known is not None and name not in known:
            near = f"; it waits for {', '.join(sorted(known))}" if known else "; no step of it waits for one"
            fault = Fault(
                message=f"run {run_id} knows no signal {name!r}{near}", code="unknown_signal", got=name
            )
            raise ValidationError([fault], subject="the signal")
        self.send(run_id, "signal", {"name": name, "data": to_tagged(data, root="data")}, by=by)

    def answer(
        self,
        run_id: str,
        task: str,
        *,
        approved: bool = True,
        data: Any = None,
        who: Answerer | None = None,
        comment: str | None = None,
    ) -> None:
        """Answers an approval; by default in the name of who runs this process.

        Raises `Conflict` when it is closed, `NotAllowed`, `ValidationError` against its form, `TaskNotFound`.
        """
        who = who or Answerer(name=getuser())
        question = self.question(run_id, task)
        approvals.check_answer(question, who, approved=approved, data=data)
        payload = {
            "task": task,
            "approved": approved,
            "data": to_tagged(data, root="data"),
            "by": who.recorded,
            "comment": comment,
        }
        self.send(run_id, "answer", payload, by=who.name)

    def question(self, run_id: str, task: str) -> approvals.Approval:
        """The approval of a task; raises `TaskNotFound`, or `Conflict` where it does not ask yet."""
        view = self._reader.task(run_id, task)
        if view.module != StepKind.APPROVAL.value:
            raise TaskNotFound(task, hint="it is no approval; codomyrmex approvals list shows what waits")
        number, position = self._reader.place_of(run_id, task)
        found = approvals.find(self._database, number, position)
        if found is None:
            raise Conflict(f"{task!r} of run {run_id} asks nothing: it is {view.status}")
        return found

    def send(
        self, run_id: str, kind: str, payload: dict[str, Any] | None = None, *, by: str | None = None
    ) -> None:
        """Brings a wish to whoever owns a run; `kind` and `payload` as in `intent_store`."""
        if self._here is not None and self._here(run_id, kind, payload or {}, by or getuser()):
            return
        ask_owner(
            self._database, self._state_dir, run_id, kind, now_us=self._now_us(), payload=payload, by=by
        )

    def _open(self, run_id: str, what: str) -> RunView:
        view = self._reader.run(run_id)
        if view.final:
            raise Conflict(f"run {run_id} has ended ({view.status}); it cannot be {what}")
        return view
