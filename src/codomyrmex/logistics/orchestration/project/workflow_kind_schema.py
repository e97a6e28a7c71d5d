"""The part of the schema for what is not a plain action: kinds that wait, fan-outs, caches, concurrency.

Layer: pure. See `workflow_schema`, which puts it together.
"""

from __future__ import annotations

from typing import Any

from codomyrmex.logistics.orchestration.project.amounts import DURATION_PATTERN, MAX_DURATION_S
from codomyrmex.logistics.orchestration.project.schema_rules import (
    Schema,
    choice_rule,
    duration_rule,
    mapping_rule,
    seconds_rule,
)
from codomyrmex.logistics.orchestration.project.workflow_kinds import CONCURRENCY_POLICIES

WORKFLOW_PATTERN = (
    r"^(?:[A-Za-z_][A-Za-z0-9_.-]{0,127}|\.{1,2}/[^\n]{0,1000}\.(?:yaml|yml|json|toml))$"  # a name, or a file
)


def kind_rules() -> Schema:
    """The four kinds of step that hold no slot."""
    return {
        "workflow": {
            "type": "string",
            "pattern": WORKFLOW_PATTERN,
            "description": "A workflow to run as a child: its name, or ./file.yaml beside this file.",
            "errorMessage": "workflow is the name of a workflow, or a file beside this one like ./child.yaml",
        },
        "approval": _approval(),
        "wait_for": _wait_for(),
        "sleep": {
            "type": ["string", "number"],
            "minimum": 0,
            "maximum": MAX_DURATION_S,
            "minLength": 1,
            "pattern": rf"\$\{{|(?:{DURATION_PATTERN})",
            "description": "How long to wait, like 5m, or a reference to it.",
            "errorMessage": "sleep is a duration like 90s or 5m, or a reference to one",
        },
    }


def _approval() -> Schema:
    keys = {
        "message": _filled("What the person is asked; references are filled in.", "message"),
        "form": {
            "type": "object",
            "description": "The JSON Schema of the data that an answer gives.",
            "errorMessage": "form is a JSON Schema like {type: object, properties: {reason: {type: string}}}",
        },
        "who": _names(
            "Who may answer; without it anybody may.", "who is a name, or a list like [alice, bob]"
        ),
        "timeout": duration_rule("How long to wait for an answer."),
        "timeout_s": seconds_rule("How long to wait for an answer, in seconds.", "timeout"),
        "default": {"description": "The answer when the time is over: true, false, or data of the form."},
    }
    return _mapping_or_text(
        keys,
        "approval is what to ask, like {message: Deploy?, who: alice}",
        required="message",
        description="Wait until a person says yes or no.",
    )


def _wait_for() -> Schema:
    keys = {
        "signal": _filled("The name of the signal.", "signal"),
        "timeout": duration_rule("How long to wait for the signal."),
        "timeout_s": seconds_rule("How long to wait for the signal, in seconds.", "timeout"),
        "default": {"description": "What stands for the signal's data when the time is over."},
    }
    return _mapping_or_text(
        keys,
        "wait_for is the name of a signal, or a mapping like {signal: ready, timeout: 1h}",
        required="signal",
        description="Wait until the run is sent this signal; its data is the step's output.",
    )


def foreach_rule() -> Schema:
    """A reference, a list, or a grid."""
    return {
        "type": ["string", "array", "object"],
        "minProperties": 1,
        "additionalProperties": {
            "type": ["array", "string"],
            "errorMessage": "each name of a grid has a list of values, or a reference to one",
        },
        "description": "Run once for each item: a reference to a list, a list, or a grid of lists."
        " The item is ${item}.",
        "errorMessage": 'foreach is a reference like "${steps.files.output}", a list, or a grid'
        " like {size: [1, 2]}",
    }


def cache_rule() -> Schema:
    """Whether a result is kept for later runs, and what makes it another one."""
    keys = {
        "inputs": _names("Files that the result is made of: paths and patterns.", _FILES.format("inputs")),
        "outputs": _names("Files that the step writes; they must still be there.", _FILES.format("outputs")),
        "key": _filled("What the result is kept under, in place of the parameters.", "key"),
        "also": {
            "type": ["array", "string"],
            "description": "Further values that make it another result.",
            "errorMessage": 'also is a list of values like ["${env.MODEL}"]',
        },
        "ttl": duration_rule("How long a result may be used again."),
        "ttl_s": seconds_rule("How long a result may be used again, in seconds.", "ttl"),
    }
    message = "cache is true, or a mapping like {inputs: [src/*.py], ttl: 7d}"
    return mapping_rule(keys, message) | {
        "type": ["object", "boolean"],
        "description": "Use the result of an earlier run again while nothing it is made of has changed.",
    }


_FILES = "{} are a list of paths like [src/*.py]"


def concurrency_rule() -> Schema:
    """Which runs may not go on at once."""
    keys = {
        "key": _filled("Runs with the same key do not go on at once; may hold ${parameters.NAME}.", "key"),
        "policy": choice_rule(
            CONCURRENCY_POLICIES,
            "a policy",
            "What a run does while an older one has its key: wait, end without having begun, or cancel that.",
        ),
    }
    return _mapping_or_text(
        keys,
        "concurrency is a mapping like {key: deploy, policy: queue}",
        required="key",
        description="Which runs of this state may not go on at once.",
    )


def _mapping_or_text(keys: Schema, message: str, *, required: str, description: str) -> Schema:
    return mapping_rule(keys, message, required=(required,)) | {
        "type": ["object", "string"],
        "minLength": 1,
        "description": description,
    }


def _filled(description: str, key: str) -> Schema:
    return {
        "type": "string",
        "minLength": 1,
        "description": description,
        "errorMessage": f"{key} is a text that is not empty",
    }


def _names(description: str, message: str) -> dict[str, Any]:
    return {
        "type": ["array", "string"],
        "minLength": 1,
        "items": {"type": "string", "minLength": 1, "errorMessage": "an item is a text that is not empty"},
        "description": description,
        "errorMessage": message,
    }
