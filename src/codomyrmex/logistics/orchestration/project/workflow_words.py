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
    }
)
RETRY_WORDS = _by_word(
    {
        "max_attempts": "attempts tries retries times count limit max_tries max_retries",
        "delay": "wait interval",
        "backoff": "factor multiplier",
        "on": "exceptions retry_on",
        "never": "except",
    }
)
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
    "priority": _by_word({"normal": "medium default", "critical": "urgent highest", "low": "lowest"}),
}

# Keys of the format that this version does not have yet: better said than "unknown key".
LATER_WORKFLOW_KEYS = frozenset(["concurrency", "schedules", "timeout", "timeout_s", "on_failure", "finally"])
LATER_STEP_KINDS = frozenset(["workflow", "approval", "wait_for", "sleep"])
LATER_STEP_KEYS = LATER_STEP_KINDS | frozenset(
    ["cache", "compensate", "on_item_failure", "on_engine_loss", "title"]
)
LATER_RETRY_KEYS = frozenset({"memory"})
LATER_RESOURCES = frozenset(["gpu", "disk", "network"])
