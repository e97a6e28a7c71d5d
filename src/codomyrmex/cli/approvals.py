"""`codomyrmex approvals list|answer`: what people are asked in this state, and what they say.

An answer is checked here, then sent to whoever owns the run. Where nobody does, it is kept, and the run has
it as soon as it is resumed.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from codomyrmex.cli.answer_form import form_text, read_answer
from codomyrmex.cli.command_line import Command
from codomyrmex.cli.figures import instant_text
from codomyrmex.cli.invocation import Invocation, pass_invocation
from codomyrmex.cli.names import complete_asking_runs, complete_asking_tasks
from codomyrmex.cli.parameter_options import given_data
from codomyrmex.cli.state_access import is_delivered, open_control, open_reads
from codomyrmex.cli.terminal import Terminal, one_line
from codomyrmex.cli.text_table import Cell, Column, Row, table_lines
from codomyrmex.exceptions import Conflict
from codomyrmex.logistics.orchestration.project.run_views import RunReads

if TYPE_CHECKING:
    from codomyrmex.logistics.orchestration.project.approvals import Answerer, Approval
    from codomyrmex.logistics.orchestration.project.run_control import RunControl
    from codomyrmex.logistics.orchestration.project.run_reader import RunReader
    from codomyrmex.workspace import Workspace

_NOBODY_ASKS = "nothing waits for an answer"


class _Asked(NamedTuple):
    """The name of a task and what it asks."""

    task: str
    question: Approval


@click.command("list", cls=Command)
@click.option("--all", "everything", is_flag=True, help="Also what was answered, the newest first.")
@click.option(
    "-n", "--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="At most so many."
)
@pass_invocation
def list_approvals(invocation: Invocation, everything: bool, limit: int) -> None:
    """List what waits for an answer, oldest first."""
    output = invocation.output
    with open_reads(invocation) as (workspace, reads):
        found = [_Asked(*each) for each in reads.inbox(limit if everything else None)]
        shown = found[:limit]
        data = {
            "approvals": [_document(each) for each in shown],
            "next_cursor": None,
            "total": len(found),
        }
        lines = _list_lines(output.out, shown, everything=everything) if shown else []
        output.answer(data, lines)
        if not found:
            output.note(_NOBODY_ASKS if not everything else f"nobody was asked anything in {workspace.state}")
            return
        if len(found) > len(shown):
            output.note(f"the first {limit:,} of {len(found):,}; --limit N shows more", "dim")
        if not everything:
            first = shown[0]
            words = ("approvals", "answer", first.question.run_id, first.task)
            output.note(f"answer with: {invocation.command(workspace, *words)}", "dim")


@click.command(cls=Command)
@click.argument("run", metavar="[RUN", required=False, shell_complete=complete_asking_runs)
@click.argument("task", metavar="[TASK]]", required=False, shell_complete=complete_asking_tasks)
@click.option("--reject", is_flag=True, help="Say no: the step fails.")
@click.option(
    "-p",
    "words",
    metavar="NAME=VALUE",
    multiple=True,
    help="A field of its form; also NAME=@FILE, NAME:=JSON.",
)
@click.option("--data", metavar="JSON|@FILE", help="The whole data of its form.")
@click.option("--comment", metavar="TEXT", help="A word that is kept with the answer.")
@click.option("--as", "name", metavar="USER", help="Answer as USER; recorded as claimed by you.")
@pass_invocation
def answer(
    invocation: Invocation,
    *,
    run: str | None,
    task: str | None,
    reject: bool,
    words: tuple[str, ...],
    data: str | None,
    comment: str | None,
    name: str | None,
) -> None:
    """Answer an approval: approve it, or reject it.

    RUN and TASK may be left out when only one approval is open. Values of -p are read by the types of its
    form; at a terminal you are asked for what the form requires and you did not give.
    """
    from codomyrmex.logistics.orchestration.project.approvals import check_answer
    from codomyrmex.logistics.orchestration.project.run_control import answerer

    given = given_data(data, words)
    with _control(invocation) as (workspace, reader, control):
        asked = _chosen(invocation, workspace, reader, control, run, task)
        who = answerer(name)
        _refuse_second(reader, asked)
        _may_answer(asked, who)
        filled = _filled(invocation, asked, given, whole=data is not None, approved=not reject)
        check_answer(asked.question, who, approved=not reject, data=filled)
        control.answer(
            asked.question.run_id, asked.task, approved=not reject, data=filled, who=who, comment=comment
        )
        delivered = is_delivered(reader, asked.question.run_id)
        if delivered:
            _refuse_late(control, asked, who)
        _tell(invocation, workspace, asked, who, (not reject, filled, comment, delivered))


def _control(invocation: Invocation) -> Any:
    if not invocation.workspace().exists:
        raise Conflict(_NOBODY_ASKS, hint=f"nothing has run yet in {invocation.workspace().root}")
    return open_control(invocation)


def _chosen(
    invocation: Invocation,
    workspace: Workspace,
    reader: RunReader,
    control: RunControl,
    run: str | None,
    task: str | None,
) -> _Asked:
    """The approval that was meant; the only open one of a run, or of all, where it was not named."""
    if run is not None and task is not None:
        run_id = reader.find(run)
        return _Asked(task, control.question(run_id, task))
    asked = [_Asked(*each) for each in reader.inbox()]
    where = ""
    if run is not None:
        run_id = reader.find(run)
        asked = [each for each in asked if _is_within(reader, each.question.run_id, run_id)]
        where = f" in run {run_id}"
    if len(asked) == 1:
        return asked[0]
    inbox = invocation.command(workspace, "approvals", "list")
    if not asked:
        raise Conflict(f"{_NOBODY_ASKS}{where}", hint=f"{inbox} --all shows what was answered")
    names = ", ".join(f"{each.question.run_id} {each.task}" for each in asked[:5])
    more = f" and {len(asked) - 5} more" if len(asked) > 5 else ""
    raise click.UsageError(
        f"{len(asked)} approvals are open{where}: {names}{more}; name the run and the task of one"
    )


def _is_within(reads: RunReads, run_id: str | None, top: str) -> bool:
    """Whether a run is `top` or one that it started."""
    while run_id is not None and run_id != top:
        run_id = reads.run(run_id).parent
    return run_id == top


def _refuse_second(reader: RunReader, asked: _Asked) -> None:
    for wish in reader.open_wishes(asked.question.run_id):
        if wish.kind == "answer" and wish.payload.get("task") == asked.task:
            raise Conflict(
                f"{asked.task!r} has an answer by {wish.payload['by']} already, which its run has not taken up yet"
            )


def _may_answer(asked: _Asked, who: Answerer) -> None:
    """Before anybody is asked for data: whether it is open, and theirs to answer."""
    from codomyrmex.logistics.orchestration.project.approvals import check_answer

    check_answer(asked.question, who, approved=False, data=None)


def _filled(invocation: Invocation, asked: _Asked, given: Any, *, whole: bool, approved: bool) -> Any:
    form = asked.question.form
    if whole or form is None:
        return given
    data = read_answer(form, given or {})
    if approved and not invocation.json and _is_interactive():
        from codomyrmex.cli.answer_questions import ask_missing

        invocation.output.note(one_line(asked.question.message), "bold")
        data = ask_missing(invocation.output.err, form, data)
    return data or None


def _is_interactive() -> bool:
    import sys

    return sys.stdin.isatty() and sys.stderr.isatty()


def _refuse_late(control: RunControl, asked: _Asked, who: Answerer) -> None:
    """Somebody's answer, or the end of the run, may have come first."""
    now = control.question(asked.question.run_id, asked.task)
    if now.answered_by != who.recorded:
        by = f" by {now.answered_by}" if now.answered_by else ""
        raise Conflict(f"the answer came too late: {asked.task!r} is {now.status}{by}")


def _tell(
    invocation: Invocation,
    workspace: Workspace,
    asked: _Asked,
    who: Answerer,
    said: tuple[bool, Any, str | None, bool],
) -> None:
    approved, data, comment, delivered = said
    run_id = asked.question.run_id
    document = {
        "execution_id": run_id,
        "task": asked.task,
        "workflow": asked.question.workflow,
        "approved": approved,
        "data": data,
        "by": who.recorded,
        "comment": comment,
        "delivered": delivered,
    }
    word = "approved" if approved else "rejected"
    invocation.output.answer(document, [f"{word} {asked.task} of {asked.question.workflow} {run_id}"])
    if not delivered:
        resume = invocation.command(workspace, "resume", run_id)
        invocation.output.note(f"the answer is recorded; no engine works on the run: {resume} goes on")


def _document(asked: _Asked) -> dict[str, Any]:
    question = asked.question
    return {
        "execution_id": question.run_id,
        "task": asked.task,
        "workflow": question.workflow,
        "message": question.message,
        "form": question.form,
        "who": list(question.who),
        "opened_at": question.opened_at.isoformat(),
        "due_at": question.due_at.isoformat() if question.due_at is not None else None,
        "status": question.status,
        "data": question.answer,
        "answered_by": question.answered_by,
        "comment": question.comment,
        "answered_at": question.answered_at.isoformat() if question.answered_at is not None else None,
    }


def _list_lines(terminal: Terminal, asked: list[_Asked], *, everything: bool) -> list[str]:
    now = datetime.now(UTC)
    columns = [
        Column("RUN"),
        Column("TASK", shrink_to=8),
        Column("WORKFLOW", shrink_to=6),
        Column("QUESTION", shrink_to=12),
        Column("WHO", shrink_to=5),
        Column("UNTIL"),
        Column("FORM", shrink_to=6),
        Column("STATUS"),
        Column("BY", shrink_to=6),
    ]
    rows: list[Row] = [
        [
            question.run_id,
            task,
            question.workflow,
            question.message,
            ", ".join(question.who),
            instant_text(question.due_at, now) if question.status == "open" else "",
            form_text(question.form) if not everything else "",
            _status_cell(question.status) if everything else "",
            question.answered_by or "",
        ]
        for task, question in asked
    ]
    return table_lines(terminal, columns, rows)


def _status_cell(status: str) -> Cell:
    return Cell(
        status.replace("_", " "), {"approved": "green", "rejected": "red", "open": "bold"}.get(status, "dim")
    )
