"""Words that people bring from other tools, and what they are called here.

Layer: pure. They only serve faults: a file that uses one is refused, and told the word to use.
"""

from __future__ import annotations

from collections.abc import Mapping


def _by_word(table: Mapping[str, str]) -> Mapping[str, str]:
    """From our word and the others' to others' word: ours."""
    return {word: ours for ours, others in table.items() for word in others.split()}


STEP_WORDS = _by_word(
    {
        "name": "id key step label",
        "run": "command cmd script sh bash shell exec",
        "call": "uses function callable target",
        "with": "args arguments params kwargs inputs input",
        "needs": "depends_on depends depend after requires upstream dependson",
        "run_if": "if when condition only_if",
        "foreach": "for_each loop matrix with_items over",
        "retry": "retries attempts max_attempts",
        "timeout": "timeout-minutes time_limit",
        "workflow": "subworkflow sub_workflow child child_workflow",
        "approval": "approve manual confirm",
        "wait_for": "signal event wait wait_for_signal",
        "sleep": "pause wait_s",
        "compensate": "undo rollback revert compensation",
        "cache": "memoize cached caching",
        "on_item_failure": "on_item_error",
        "timeout_s": "timeout_seconds timeout_sec",
        "working_dir": "cwd workdir working_directory working-directory dir",
        "env": "environment vars variables",
        "required": "allow_failure continue_on_error continue-on-error optional ignore_errors",
        "trigger_rule": "trigger",
        "max_parallel": "parallel parallelism max_workers",
    }
)
WORKFLOW_WORDS = _by_word(
    {
        "name": "id title workflow",
        "steps": "tasks jobs stages step dag",
        "parameters": "params inputs vars variables args",
        "outputs": "output results",
        "env": "environment",
        "working_dir": "cwd workdir working_directory",
        "max_parallel": "parallel max_workers max_active_tasks",
        "fail_fast": "stop_on_failure failfast fail-fast",
        "defaults": "default default_args",
        "timeout": "timeout-minutes time_limit deadline",
        "on_failure": "on_error onfailure on_failed catch except",
        "finally": "finally_ always cleanup on_exit teardown on_completion",
        "concurrency": "mutex lock",
    }
)
RETRY_WORDS = _by_word(
    {
        "max_attempts": "attempts tries retries times count limit max_tries max_retries",
        "delay": "wait interval",
        "backoff": "factor multiplier",
        "memory": "ram mem memory_factor",
        "on": "exceptions retry_on",
        "never": "except",
    }
)
RESOURCE_WORDS = _by_word(
    {
        "cpu": "cpus core cores vcpu vcpus n_cpus num_cpus cpu_count processors sys-compute",
        "memory": "ram mem mem_mb memory_mb memory_gb rss sys-memory",
        "gpu": "gpus cuda n_gpus num_gpus gpu_count accelerator accelerators",
        "disk": "disks disc storage disk_mb disk_space ephemeral-storage sys-disk",
        "network": "net bandwidth sys-network",
    }
)
PART_WORDS: Mapping[str, Mapping[str, str]] = {
    "approval": _by_word(
        {
            "message": "text prompt question title description",
            "form": "schema fields input inputs",
            "who": "users user approvers approver by reviewers",
        }
    ),
    "wait_for": _by_word({"signal": "name event"}),
    "cache": _by_word(
        {
            "inputs": "input paths files path",
            "outputs": "output",
            "ttl": "expires expires_in max_age lifetime timeout",
            "also": "extra vars salt",
        }
    ),
    "concurrency": _by_word({"key": "group name", "policy": "strategy cancel-in-progress on_conflict"}),
    "retry": RETRY_WORDS,
}
"""What the keys of mappings inside a step or a workflow are called elsewhere."""

VALUE_WORDS: Mapping[str, Mapping[str, str]] = {
    "type": _by_word(
        {
            "string": "str text",
            "integer": "int",
            "number": "float double decimal",
            "boolean": "bool flag",
            "list": "array tuple set",
            "object": "dict map mapping any json",
            "path": "file dir directory folder",
            "date": "datetime day",
        }
    ),
    "trigger_rule": _by_word(
        {
            "all_success": "all success",
            "all_done": "always all_complete",
            "one_success": "any",
            "one_failed": "failure failed on_failure",
            "none_failed": "none_failed_min_one_success",
        }
    ),
    "isolation": _by_word({"process": "subprocess fork", "thread": "none", "async": "asyncio coroutine"}),
    "on_item_failure": _by_word({"stop": "fail_fast abort", "continue": "ignore skip", "fail": "default"}),
    "policy": _by_word(
        {"queue": "wait block", "skip": "drop ignore", "cancel_old": "cancel replace cancel_running"}
    ),
    "priority": _by_word({"normal": "medium default", "critical": "urgent highest", "low": "lowest"}),
}

# Keys of the format that this version does not have yet: better said than "unknown key".
LATER_WORKFLOW_KEYS = frozenset(["schedules"])
LATER_STEP_KEYS = frozenset(["on_engine_loss", "title"])
