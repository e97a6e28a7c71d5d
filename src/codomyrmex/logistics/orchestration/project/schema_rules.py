"""Rules that the JSON Schema of workflow files is made of: names, texts, counts, durations.

Layer: pure. Each is a schema of its own with a description for editors and the `errorMessage` that our faults
begin with.
"""

from __future__ import annotations

from typing import Any

from codomyrmex.logistics.orchestration.project.amounts import DURATION_PATTERN, MAX_DURATION_S

NAME_PATTERN = "^[A-Za-z_][A-Za-z0-9_.-]{0,127}$"
ENV_PATTERN = "^[A-Za-z_][A-Za-z0-9_]*$"

Schema = dict[str, Any]


def mapping_rule(keys: Schema, message: str, *, required: tuple[str, ...] = ()) -> Schema:
    """A mapping of these keys and no others, but for `x-` keys."""
    return {
        "type": "object",
        "properties": keys,
        "required": list(required),
        "patternProperties": {"^x-": True},
        "additionalProperties": False,
        "errorMessage": message,
    }


def name_rule(description: str) -> Schema:
    """The name of a workflow, a step or a parameter."""
    return {
        "type": "string",
        "pattern": NAME_PATTERN,
        "description": description,
        "errorMessage": "a name is up to 128 letters, digits, _ . and -, and begins with a letter or _",
    }


def text_rule(description: str) -> Schema:
    """Any text."""
    return {"type": "string", "description": description, "errorMessage": "text is needed"}


def switch_rule(description: str) -> Schema:
    """true or false."""
    return {"type": "boolean", "description": description, "errorMessage": "true or false is needed"}


def choice_rule(values: tuple[str, ...], noun: str, description: str) -> Schema:
    """One of a few words."""
    return {"enum": list(values), "description": description, "errorMessage": f"{noun} is one of a few words"}


def count_rule(description: str) -> Schema:
    """A number of things, from 1."""
    return {
        "type": "integer",
        "minimum": 1,
        "maximum": 1_000_000,
        "description": description,
        "errorMessage": "a whole number from 1 on is needed",
    }


def tries_rule(description: str) -> Schema:
    """A number of further tries."""
    return {
        "type": "integer",
        "minimum": 0,
        "maximum": 999,
        "description": description,
        "errorMessage": "a whole number from 0 to 999 is needed",
    }


def given_rule() -> Schema:
    """What an action or a child run is given."""
    return {
        "type": "object",
        "description": "What the action is given; ${...} references are filled in.",
        "errorMessage": "the parameters of a step are a mapping of names to values",
    }


def duration_rule(description: str) -> Schema:
    """A time like `90s`, above 0."""
    return {
        "type": ["string", "number"],
        "exclusiveMinimum": 0,
        "maximum": MAX_DURATION_S,
        "minLength": 1,
        "pattern": DURATION_PATTERN,
        "description": description,
        "errorMessage": "a duration above 0 is needed, like 90s, 10m or 1h30m",
    }


def pause_rule(description: str) -> Schema:
    """A time like `90s`, which may be 0."""
    return {
        "type": ["string", "number"],
        "minimum": 0,
        "maximum": MAX_DURATION_S,
        "minLength": 1,
        "pattern": DURATION_PATTERN,
        "description": description,
        "errorMessage": "a duration is needed, like 500ms, 5s or 1m",
    }


def seconds_rule(description: str, short: str) -> Schema:
    """A time in seconds, above 0."""
    return {
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": MAX_DURATION_S,
        "description": description,
        "errorMessage": f"{short}_s is a number of seconds above 0",
    }


def pause_s_rule(description: str, short: str) -> Schema:
    """A time in seconds, which may be 0."""
    return {
        "type": "number",
        "minimum": 0,
        "maximum": MAX_DURATION_S,
        "description": description,
        "errorMessage": f"{short}_s is a number of seconds",
    }
