"""Every command there is: where its code lives and one line about it.

The help, the lazy imports and the "next" lines under a failure all read this one table, so that none of
them can name a command that does not exist. A row costs no import.
"""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """A command, or a group when `where` is empty; `where` is `module:attribute` below `codomyrmex.cli`."""

    name: str
    about: str
    where: str = ""


class Section(NamedTuple):
    """A titled part of the help of the whole program."""

    title: str
    entries: tuple[Entry, ...]


INIT = Entry("init", "Write a small workflow that runs at once", "init:init")
RUN = Entry("run", "Run a workflow file, or a workflow by its name", "run:run")
RESUME = Entry("resume", "Take up runs that stopped, or were paused", "resume:resume")
PS = Entry("ps", "Show what runs now, and what waits to be resumed", "runs:ps")
SHOW = Entry("show", "Show one run: its steps, outputs and errors", "runs:show")
WATCH = Entry("watch", "Follow a run until it ends", "watch:watch")
LOGS = Entry("logs", "Show what the steps printed", "logs:logs")
EXPLAIN = Entry("explain", "Say why something waits, or why it ended as it did", "runs:explain")
CANCEL = Entry("cancel", "Stop a run and everything that it started", "cancel:cancel")

DAILY: tuple[Section, ...] = (
    Section("Start", (INIT, RUN, RESUME)),
    Section("Look", (PS, SHOW, WATCH, LOGS, EXPLAIN)),
    Section("Stop", (CANCEL,)),
)

MORE: tuple[Section, ...] = (
    Section(
        "By noun",
        (
            Entry("runs", "Runs: all of them, and every verb of one"),
            Entry("tasks", "The tasks of a run"),
            Entry("approvals", "What waits for an answer, and the answering"),
            Entry("resources", "What there is only so much of: CPUs, memory, GPUs, locks, quotas"),
            Entry("secrets", "Passwords and tokens that steps are given by name"),
            Entry("workflows", "The workflow files of this project: list, check, draw"),
            Entry("actions", "What a step can call"),
        ),
    ),
    Section(
        "This place",
        (
            Entry("status", "Show this project at a glance: what runs, what ran last", "status:status"),
            Entry("demo", "Run a real workflow, kill its engine, and resume it", "demo:demo"),
            Entry("doctor", "Check this machine and this project", "doctor:doctor"),
            Entry("config", "The settings that hold here"),
            Entry("completion", "Print the completion script of a shell", "completion:completion"),
        ),
    ),
)

GROUPS: dict[str, tuple[Entry, ...]] = {
    "runs": (
        Entry("list", "List runs, newest first", "runs:list_runs"),
        SHOW,
        WATCH,
        LOGS,
        EXPLAIN,
        CANCEL,
        RESUME,
        Entry("signal", "Send a run a signal that its steps wait for", "signal:send_signal"),
    ),
    "tasks": (
        Entry("list", "List the tasks of a run, in the order of its definition", "tasks:list_tasks"),
        Entry("show", "Show one task: its action, its attempt, its error", "tasks:show"),
    ),
    "approvals": (
        Entry("list", "List what waits for an answer, oldest first", "approvals:list_approvals"),
        Entry("answer", "Answer an approval: approve it, or reject it", "approvals:answer"),
    ),
    "resources": (
        Entry("list", "List what this machine has and what this project limits", "resources:list_resources"),
        Entry(
            "show", "Show one resource: how much there is, how much is in use, who has it", "resources:show"
        ),
        Entry("usage", "Show how much is in use", "resources:usage"),
        Entry("holders", "Show who holds what, and since when", "resources:holders"),
        Entry("add", "Add a lock, a semaphore or a quota to this project", "resource_changes:add"),
        Entry("remove", "Remove a resource of this project", "resource_changes:remove"),
        Entry(
            "offline",
            "Take a resource out of service: nobody gets any more of it",
            "resource_changes:offline",
        ),
        Entry("online", "Put a resource back into service", "resource_changes:online"),
    ),
    "secrets": (
        Entry(
            "set",
            "Keep the value of a secret, asked for unseen, or read from a pipe or a file",
            "secrets:set_secret",
        ),
        Entry("list", "List the secrets that steps can use here; never their values", "secrets:list_secrets"),
        Entry(
            "remove",
            "Remove a secret of this project, or your own where the project has none of this name",
            "secrets:remove_secret",
        ),
    ),
    "workflows": (
        Entry("list", "List the workflow files of this project", "workflows:list_workflows"),
        Entry("show", "Show one workflow: its parameters, steps and outputs", "workflows:show"),
        Entry("validate", "Check workflows and list every fault; nothing is run", "workflows:validate"),
        Entry("graph", "Draw the graph of a workflow as text", "workflows:graph"),
        Entry("plan", "Show when each task of a run would begin and end; nothing is run", "plan:plan"),
        Entry(
            "import",
            "Write a workflow of another tool as a workflow file",
            "workflow_import:import_workflow",
        ),
        Entry(
            "schema",
            "Print the JSON Schema of workflow files, for editors and for agents",
            "workflows:schema",
        ),
        Entry("test", "Run the tests of workflows: NAME.test.yaml beside NAME.yaml", "workflow_test:test"),
    ),
    "actions": (
        Entry("list", "List the actions that there are to choose from", "actions:list_actions"),
        Entry("show", "Show one action: what it takes, what it declares, where it is", "actions:show"),
    ),
    "config": (Entry("show", "Show the settings that hold here", "config:show"),),
}


def root_entries() -> tuple[Entry, ...]:
    """Commands and groups of the first level, in the order of the help."""
    return tuple(entry for section in (*DAILY, *MORE) for entry in section.entries)


def exists(*words: str) -> bool:
    """Whether `codomyrmex WORDS...` is a command."""
    entries = root_entries() if len(words) == 1 else GROUPS.get(words[0], ())
    return any(entry.name == words[-1] and (entry.where or len(words) == 1) for entry in entries)
