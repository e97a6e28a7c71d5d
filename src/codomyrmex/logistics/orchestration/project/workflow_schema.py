"""The JSON Schema (2020-12) of workflow files, long and short forms: what `workflows schema` prints.

Layer: pure. Written by hand, once: files are checked against it, and `errorMessage` (which editors show
too) is the text our faults begin with. What a schema cannot say, or can only say in a way nobody
understands (one of `run` and `call`, no name twice), is checked by `workflow_check`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from codomyrmex.logistics.orchestration.project.amounts import (
    DURATION_PATTERN,
    MAX_DURATION_S,
    MAX_SIZE_BYTES,
    SIZE_PATTERN,
)
from codomyrmex.logistics.orchestration.project.workflow_parameters import PARAMETER_TYPES

NAME_PATTERN = "^[A-Za-z_][A-Za-z0-9_.-]{0,127}$"
ENV_PATTERN = "^[A-Za-z_][A-Za-z0-9_]*$"
MAX_STEPS = 200_000

TRIGGER_RULES = ("all_success", "all_done", "one_success", "one_failed", "none_failed")
PRIORITIES = ("low", "normal", "high", "critical")
ISOLATIONS = ("process", "thread", "async")
EFFECTS = ("pure", "idempotent", "unsafe")

Schema = dict[str, Any]


@cache
def schema() -> Schema:
    """The schema; treat it as constant."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Codomyrmex workflow",
        **_mapping(
            _workflow_keys(), "a workflow is a mapping with `name` and `steps`", required=("name", "steps")
        ),
        "$defs": {
            "step": _step(),
            "defaults": _mapping(
                _shared_keys(), "defaults are a mapping of retry, isolation, timeout and resources"
            ),
            "declaration": _mapping(
                _declaration_keys(), "a parameter is a mapping like {type: integer, default: 3}"
            ),
            "retry": _retry(),
            "environment": {
                "type": "object",
                "propertyNames": {
                    "pattern": ENV_PATTERN,
                    "errorMessage": "a variable is named with letters, digits and _",
                },
                "additionalProperties": {
                    "type": ["string", "number", "boolean"],
                    "errorMessage": "a variable is text",
                },
                "errorMessage": "env is a mapping of names to texts",
            },
        },
    }


def _workflow_keys() -> Schema:
    return {
        "codomyrmex": {
            "const": 1,
            "description": "The version of this format.",
            "errorMessage": "this version reads format 1",
        },
        "name": _name("The name of the workflow: runs are listed and found under it."),
        "version": {
            "type": ["string", "number"],
            "description": "Yours; it is kept with each run.",
            "errorMessage": "a version is text",
        },
        "description": _text("What the workflow is for."),
        "labels": {
            "type": "object",
            "additionalProperties": {
                "type": ["string", "number", "boolean"],
                "errorMessage": "a label is text",
            },
            "errorMessage": "labels are a mapping of names to texts",
        },
        "parameters": {
            "type": "object",
            "description": "What a run can be given: `-p name=value`.",
            "propertyNames": _name("The name of a parameter."),
            "additionalProperties": {"$ref": "#/$defs/declaration"},
            "errorMessage": "parameters are a mapping like {shards: {type: integer, default: 3}}",
        },
        "steps": {
            "type": "array",
            "minItems": 1,
            "maxItems": MAX_STEPS,
            "items": {"$ref": "#/$defs/step"},
            "description": "The steps, in any order; they run when what they need is done.",
            "errorMessage": "steps are a list",
        },
        "outputs": {
            "type": "object",
            "description": "What a run gives back: references to outputs of steps.",
            "errorMessage": 'outputs are a mapping like {report: "${steps.report.output}"}',
        },
        "env": {"$ref": "#/$defs/environment"},
        "working_dir": _text("The folder steps start in, relative to the root."),
        "python": _text("The interpreter of Python steps."),
        "max_parallel": _count("How many tasks of a run may run at once."),
        "fail_fast": _switch("Stop at the first failure of a required step."),
        "defaults": {"$ref": "#/$defs/defaults"},
        "on_failure": _only_empty(),
        "finally": _only_empty(),
    }


def _step() -> Schema:
    step = _mapping(_step_keys(), "a step is a mapping with `name` and one of `run`, `call`, `module`")
    return step | {
        "required": ["name"],
        "oneOf": [{"required": ["run"]}, {"required": ["call"]}, {"required": ["module", "action"]}],
    }


def _step_keys() -> Schema:
    names = {
        "type": ["array", "string"],
        "pattern": NAME_PATTERN,
        "items": _name("The name of a step."),
        "errorMessage": _NEEDS,
    }
    return {
        "name": _name("The name of the step; others refer to it as ${steps.NAME.output}."),
        "description": _text("What the step is for."),
        "run": {
            "type": ["string", "array"],
            "minLength": 1,
            "minItems": 1,
            "items": {"type": ["string", "number", "boolean"], "errorMessage": "an argument is text"},
            "description": "A command: a list of arguments, or text for bash -euo pipefail -c.",
            "errorMessage": "run is a command: text for bash, or a list like [pytest, -q]",
        },
        "call": {
            "type": "string",
            "description": "A Python function, `package.module:function` or `./file.py:function`.",
            "errorMessage": "call is a function like mypkg.io:list_files or ./steps.py:list_files",
        },
        "module": _text(
            "The module of the action: `package.module`, `./file.py`, or shell, http, python, files."
        ),
        "action": _text("The function in the module."),
        "with": _parameters(),
        "parameters": _parameters(),
        "needs": names | {"description": "Steps that must be done before; references add theirs."},
        "dependencies": names | {"description": "The same as needs."},
        "run_if": {
            "type": "string",
            "description": "A condition, checked when the step could start; false skips it.",
            "errorMessage": 'run_if is a condition like "len(steps.parse.output) > 0"',
        },
        "foreach": {
            "type": ["string", "array"],
            "description": "Run once for each item: a reference to a list, or a list. The item is ${item}.",
            "errorMessage": 'foreach is a reference like "${steps.files.output}", or a list',
        },
        "trigger_rule": _choice(TRIGGER_RULES, "a trigger rule", "What must be true of the steps before."),
        "priority": _choice(PRIORITIES, "a priority", "Which of the ready steps goes first."),
        "required": _switch("Whether a failure of the step fails the run."),
        "max_parallel": _count("How many items of a foreach may run at once."),
        "env": {"$ref": "#/$defs/environment"},
        "working_dir": _text("The folder the step starts in, relative to the root."),
        "python": _text("The interpreter of the step."),
        "effects": _choice(EFFECTS, "an effect", "Whether the step may simply run again after a crash."),
        "max_retries": _tries("The same as retry with a number (old files)."),
        "retry_count": _tries("Read and not used (old files)."),
        **_shared_keys(),
    }


def _shared_keys() -> Schema:
    """Keys that `defaults:` may have as well as a step."""
    return {
        "timeout": _duration("How long one attempt may take."),
        "timeout_s": _seconds("How long one attempt may take, in seconds.", "timeout"),
        "retry": {"$ref": "#/$defs/retry"},
        "isolation": _choice(ISOLATIONS, "an isolation", "Where the step runs."),
        "resources": {
            "type": "object",
            "description": "What an attempt holds while it runs; a step that says nothing holds one CPU.",
            "properties": {
                "cpu": {
                    "type": "number",
                    "minimum": 0,
                    "maximum": 100_000,
                    "errorMessage": "cpu is a number of CPUs like 2 or 0.5",
                },
                "memory": {
                    "type": ["string", "integer"],
                    "minimum": 0,
                    "maximum": MAX_SIZE_BYTES,
                    "pattern": SIZE_PATTERN,
                    "errorMessage": "memory is a size like 256MiB or 1.5GB",
                },
            },
            "patternProperties": {"^x-": True},
            "additionalProperties": False,
            "errorMessage": "resources are a mapping like {cpu: 2, memory: 512MiB}",
        },
    }


def _retry() -> Schema:
    kinds = {
        "type": ["array", "string"],
        "pattern": r"^[A-Za-z_][\w.]*$",
        "items": {
            "type": "string",
            "pattern": r"^[A-Za-z_][\w.]*$",
            "errorMessage": "name exceptions like ConnectionError, or timeout, crashed, out_of_memory, lost",
        },
    }
    keys: Schema = {
        "max_attempts": {
            "type": "integer",
            "minimum": 1,
            "maximum": 1000,
            "description": "How often the step is tried in all.",
            "errorMessage": "max_attempts is a whole number from 1 to 1000, the first try counted",
        },
        "delay": _pause("The wait before the second try."),
        "delay_s": _pause_s("The wait before the second try, in seconds.", "delay"),
        "backoff": {
            "type": "number",
            "minimum": 1,
            "maximum": 100,
            "description": "What each wait is multiplied by for the next.",
            "errorMessage": "backoff is a number from 1 (always the same wait) to 100",
        },
        "max_delay": _pause("The longest wait."),
        "max_delay_s": _pause_s("The longest wait, in seconds.", "max_delay"),
        "jitter": _switch("Spread the waits so that many tries do not come at once."),
        "on": kinds
        | {
            "description": "Retry only these: exceptions, and timeout, crashed, out_of_memory, lost.",
            "errorMessage": "on is a list like [timeout, ConnectionError]",
        },
        "never": kinds
        | {"description": "Never retry these.", "errorMessage": "never is a list like [ValueError]"},
    }
    message = "retry is a number of further tries, or a mapping like {max_attempts: 3, delay: 5s}"
    return _mapping(keys, message, required=("max_attempts",)) | {
        "type": ["object", "integer"],
        "minimum": 0,
        "maximum": 999,
        "description": "How often to try again after a failure: `2`, or a mapping.",
    }


def _declaration_keys() -> Schema:
    return {
        "type": _choice(PARAMETER_TYPES, "a type", "What values the parameter takes."),
        "default": {"description": "The value when none is given; without it one must be given."},
        "description": _text("What the parameter is for."),
        "choices": {
            "type": "array",
            "minItems": 1,
            "description": "The only values allowed.",
            "errorMessage": "choices are a list of the values allowed",
        },
    }


_NEEDS = "the steps needed are a list of names like [build, test]"


def _mapping(keys: Schema, message: str, *, required: tuple[str, ...] = ()) -> Schema:
    return {
        "type": "object",
        "properties": keys,
        "required": list(required),
        "patternProperties": {"^x-": True},
        "additionalProperties": False,
        "errorMessage": message,
    }


def _name(description: str) -> Schema:
    return {
        "type": "string",
        "pattern": NAME_PATTERN,
        "description": description,
        "errorMessage": "a name is up to 128 letters, digits, _ . and -, and begins with a letter or _",
    }


def _text(description: str) -> Schema:
    return {"type": "string", "description": description, "errorMessage": "text is needed"}


def _switch(description: str) -> Schema:
    return {"type": "boolean", "description": description, "errorMessage": "true or false is needed"}


def _choice(values: tuple[str, ...], noun: str, description: str) -> Schema:
    return {"enum": list(values), "description": description, "errorMessage": f"{noun} is one of a few words"}


def _count(description: str) -> Schema:
    return {
        "type": "integer",
        "minimum": 1,
        "maximum": 1_000_000,
        "description": description,
        "errorMessage": "a whole number from 1 on is needed",
    }


def _tries(description: str) -> Schema:
    return {
        "type": "integer",
        "minimum": 0,
        "maximum": 999,
        "description": description,
        "errorMessage": "a whole number from 0 to 999 is needed",
    }


def _parameters() -> Schema:
    return {
        "type": "object",
        "description": "What the action is given; ${...} references are filled in.",
        "errorMessage": "the parameters of a step are a mapping of names to values",
    }


def _only_empty() -> Schema:
    return {"type": "array", "maxItems": 0, "errorMessage": "this is not supported by this version"}


def _duration(description: str) -> Schema:
    return {
        "type": ["string", "number"],
        "exclusiveMinimum": 0,
        "maximum": MAX_DURATION_S,
        "minLength": 1,
        "pattern": DURATION_PATTERN,
        "description": description,
        "errorMessage": "a duration above 0 is needed, like 90s, 10m or 1h30m",
    }


def _pause(description: str) -> Schema:
    return {
        "type": ["string", "number"],
        "minimum": 0,
        "maximum": MAX_DURATION_S,
        "minLength": 1,
        "pattern": DURATION_PATTERN,
        "description": description,
        "errorMessage": "a duration is needed, like 500ms, 5s or 1m",
    }


def _seconds(description: str, short: str) -> Schema:
    return {
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": MAX_DURATION_S,
        "description": description,
        "errorMessage": f"{short}_s is a number of seconds above 0",
    }


def _pause_s(description: str, short: str) -> Schema:
    return {
        "type": "number",
        "minimum": 0,
        "maximum": MAX_DURATION_S,
        "description": description,
        "errorMessage": f"{short}_s is a number of seconds",
    }
