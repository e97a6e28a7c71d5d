"""The JSON Schema (2020-12) of workflow files, long and short forms: what `workflows schema` prints.

Layer: pure. Written by hand, once: files are checked against it, and `errorMessage` (which editors show
too) is the text our faults begin with. What a schema cannot say, or can only say in a way nobody
understands (one of `run` and `call`, no name twice), is checked by `workflow_check`.
"""

from __future__ import annotations

from functools import cache

from codomyrmex.logistics.orchestration.project.amounts import MAX_SIZE_BYTES
from codomyrmex.logistics.orchestration.project.schema_rules import (
    ENV_PATTERN,
    NAME_PATTERN,
    Schema,
    choice_rule,
    count_rule,
    duration_rule,
    given_rule,
    mapping_rule,
    name_rule,
    pause_rule,
    pause_s_rule,
    seconds_rule,
    switch_rule,
    text_rule,
    tries_rule,
)
from codomyrmex.logistics.orchestration.project.step_resources import (
    MACHINE_AMOUNTS,
    MAX_CPUS,
    MAX_GPUS,
    MAX_UNITS,
    NAMED_AMOUNT,
    QUOTA_WORD,
)
from codomyrmex.logistics.orchestration.project.workflow_kind_schema import (
    cache_rule,
    concurrency_rule,
    foreach_rule,
    kind_rules,
)
from codomyrmex.logistics.orchestration.project.workflow_kinds import (
    COMPENSATION,
    COMPENSATION_KEYS,
    ITEM_FAILURES,
    WAITING_KINDS,
)
from codomyrmex.logistics.orchestration.project.workflow_parameters import PARAMETER_TYPES

MAX_STEPS = 200_000

TRIGGER_RULES = ("all_success", "all_done", "one_success", "one_failed", "none_failed")
PRIORITIES = ("low", "normal", "high", "critical")
ISOLATIONS = ("process", "thread", "async")
EFFECTS = ("pure", "idempotent", "unsafe")


@cache
def schema() -> Schema:
    """The schema; treat it as constant."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Codomyrmex workflow",
        **mapping_rule(
            _workflow_keys(), "a workflow is a mapping with `name` and `steps`", required=("name", "steps")
        ),
        "$defs": {
            "step": _step(_step_keys() | {COMPENSATION: {"$ref": "#/$defs/compensation"}}),
            "handler": {"$ref": "#/$defs/step", "properties": {COMPENSATION: False}},
            "compensation": _compensation(),
            "defaults": mapping_rule(
                _shared_keys(), "defaults are a mapping of retry, isolation, timeout and resources"
            ),
            "declaration": mapping_rule(
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
        "name": name_rule("The name of the workflow: runs are listed and found under it."),
        "version": {
            "type": ["string", "number"],
            "description": "Yours; it is kept with each run.",
            "errorMessage": "a version is text",
        },
        "description": text_rule("What the workflow is for."),
        "labels": {
            "type": "object",
            "description": "Yours, to find runs by; ${parameters.NAME} is filled in.",
            "additionalProperties": {
                "type": ["string", "number", "boolean"],
                "errorMessage": "a label is text",
            },
            "errorMessage": "labels are a mapping of names to texts",
        },
        "parameters": {
            "type": "object",
            "description": "What a run can be given: `-p name=value`.",
            "propertyNames": name_rule("The name of a parameter."),
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
        "working_dir": text_rule("The folder steps start in, relative to the root."),
        "python": text_rule("The interpreter of Python steps."),
        "max_parallel": count_rule("How many tasks of a run may run at once."),
        "fail_fast": switch_rule("Stop at the first failure of a required step."),
        "defaults": {"$ref": "#/$defs/defaults"},
        "timeout": duration_rule(
            "How long a run may take; what is open then is cancelled, and the run fails."
        ),
        "timeout_s": seconds_rule("How long a run may take, in seconds.", "timeout"),
        "concurrency": concurrency_rule(),
        "on_failure": _handlers("Steps that run when the run has failed."),
        "finally": _handlers(
            "Steps that run at the end of every run, whether it completed, failed or was cancelled."
        ),
    }


def _handlers(description: str) -> Schema:
    return {
        "type": "array",
        "maxItems": MAX_STEPS,
        "items": {"$ref": "#/$defs/handler"},
        "description": description,
        "errorMessage": "handlers are a list of steps",
    }


_ACTIONS: tuple[tuple[str, ...], ...] = (("run",), ("call",), ("module", "action"))


def _step(keys: Schema) -> Schema:
    message = "a step is a mapping with `name` and one of `run`, `call`, `module`, or a kind that waits"
    kinds = (*_ACTIONS, *((kind,) for kind in WAITING_KINDS))
    return mapping_rule(keys, message, required=("name",)) | _one_of(kinds)


def _compensation() -> Schema:
    keys: Schema = {
        key: {"$ref": f"#/$defs/step/properties/{key}"} for key in _step_keys() if key in COMPENSATION_KEYS
    }
    message = "compensate is what undoes the step: a mapping with one of `run`, `call`, `module`"
    return mapping_rule(keys, message) | _one_of(_ACTIONS)


def _one_of(kinds: tuple[tuple[str, ...], ...]) -> Schema:
    return {"oneOf": [{"required": list(keys)} for keys in kinds]}


def _step_keys() -> Schema:
    names = {
        "type": ["array", "string"],
        "pattern": NAME_PATTERN,
        "items": name_rule("The name of a step."),
        "errorMessage": _NEEDS,
    }
    return {
        "name": name_rule("The name of the step; others refer to it as ${steps.NAME.output}."),
        "description": text_rule("What the step is for."),
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
        "module": text_rule(
            "The module of the action: `package.module`, `./file.py`, or shell, http, python, files."
        ),
        "action": text_rule("The function in the module."),
        "with": given_rule(),
        "parameters": given_rule(),
        "needs": names | {"description": "Steps that must be done before; references add theirs."},
        "dependencies": names | {"description": "The same as needs."},
        "run_if": {
            "type": "string",
            "description": "A condition, checked when the step could start; false skips it.",
            "errorMessage": 'run_if is a condition like "len(steps.parse.output) > 0"',
        },
        "foreach": foreach_rule(),
        "on_item_failure": choice_rule(
            ITEM_FAILURES, "a policy", "What a failed item of a foreach does to the others and to the step."
        ),
        "trigger_rule": choice_rule(
            TRIGGER_RULES, "a trigger rule", "What must be true of the steps before."
        ),
        "priority": choice_rule(PRIORITIES, "a priority", "Which of the ready steps goes first."),
        "required": switch_rule("Whether a failure of the step fails the run."),
        "max_parallel": count_rule("How many items of a foreach may run at once."),
        "env": {"$ref": "#/$defs/environment"},
        "working_dir": text_rule("The folder the step starts in, relative to the root."),
        "python": text_rule("The interpreter of the step."),
        "effects": choice_rule(EFFECTS, "an effect", "Whether the step may simply run again after a crash."),
        "cache": cache_rule(),
        **kind_rules(),
        "max_retries": tries_rule("The same as retry with a number (old files)."),
        "retry_count": tries_rule("Read and not used (old files)."),
        **_shared_keys(),
    }


def _shared_keys() -> Schema:
    """Keys that `defaults:` may have as well as a step."""
    return {
        "timeout": duration_rule("How long one attempt may take."),
        "timeout_s": seconds_rule("How long one attempt may take, in seconds.", "timeout"),
        "retry": {"$ref": "#/$defs/retry"},
        "isolation": choice_rule(ISOLATIONS, "an isolation", "Where the step runs."),
        "resources": _resources(),
    }


def _resources() -> Schema:
    amounts = {
        "cpu": _number_rule("cpu", "CPUs, like `2` or `0.5`.", MAX_CPUS),
        "memory": _size_rule(
            "memory", "A size, like `256MiB` or `1.5GB`: claimed, and the attempt is held to it."
        ),
        "gpu": _number_rule("gpu", "GPUs: whole ones, like `2`, or a share of one, like `0.5`.", MAX_GPUS),
        "disk": _size_rule("disk", "A size, like `10GiB`: claimed, not enforced."),
        "network": _size_rule("network", "A size per second, like `10MB`: claimed, not enforced."),
    }
    named: Schema = {
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": MAX_UNITS,
        "description": "So much of a resource that the state knows, like `1` or `0.5`.",
        "errorMessage": NAMED_AMOUNT.wanted,
    }
    quota = named | {"description": "So much of the quota `api-global`, like `1`."}
    return {
        "type": "object",
        "description": "What an attempt holds while it runs; a step that says nothing holds one CPU.",
        "properties": amounts | {QUOTA_WORD: quota},
        "patternProperties": {"^x-": True},
        "propertyNames": name_rule("The name of a resource: see `codomyrmex resources list`."),
        "additionalProperties": named,
        "errorMessage": "resources are a mapping like {cpu: 2, memory: 512MiB}",
    }


def _number_rule(word: str, description: str, most: int) -> Schema:
    return {
        "type": "number",
        "minimum": 0,
        "maximum": most,
        "description": description,
        "errorMessage": MACHINE_AMOUNTS[word].wanted,
    }


def _size_rule(word: str, description: str) -> Schema:
    return {
        "type": ["string", "integer"],
        "minimum": 0,
        "maximum": MAX_SIZE_BYTES,
        "pattern": MACHINE_AMOUNTS[word].pattern,
        "description": description,
        "errorMessage": MACHINE_AMOUNTS[word].wanted,
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
        "delay": pause_rule("The wait before the second try."),
        "delay_s": pause_s_rule("The wait before the second try, in seconds.", "delay"),
        "backoff": {
            "type": "number",
            "minimum": 1,
            "maximum": 100,
            "description": "What each wait is multiplied by for the next.",
            "errorMessage": "backoff is a number from 1 (always the same wait) to 100",
        },
        "max_delay": pause_rule("The longest wait."),
        "max_delay_s": pause_s_rule("The longest wait, in seconds.", "max_delay"),
        "jitter": switch_rule("Spread the waits so that many tries do not come at once."),
        "memory": {
            "type": "number",
            "exclusiveMinimum": 1,
            "maximum": 10,
            "description": "What the claim on memory is multiplied by after an attempt that ran out of it.",
            "errorMessage": "memory is a factor above 1 and up to 10, like 1.5",
        },
        "on": kinds
        | {
            "description": "Retry only these: exceptions, and timeout, crashed, out_of_memory, lost.",
            "errorMessage": "on is a list like [timeout, ConnectionError]",
        },
        "never": kinds
        | {"description": "Never retry these.", "errorMessage": "never is a list like [ValueError]"},
    }
    message = "retry is a number of further tries, or a mapping like {max_attempts: 3, delay: 5s}"
    return mapping_rule(keys, message, required=("max_attempts",)) | {
        "type": ["object", "integer"],
        "minimum": 0,
        "maximum": 999,
        "description": "How often to try again after a failure: `2`, or a mapping.",
    }


def _declaration_keys() -> Schema:
    return {
        "type": choice_rule(PARAMETER_TYPES, "a type", "What values the parameter takes."),
        "default": {"description": "The value when none is given; without it one must be given."},
        "description": text_rule("What the parameter is for."),
        "choices": {
            "type": "array",
            "minItems": 1,
            "description": "The only values allowed.",
            "errorMessage": "choices are a list of the values allowed",
        },
    }


_NEEDS = "the steps needed are a list of names like [build, test]"
