"""What is known of an action: where it was found, what it takes, and what it declares about itself.

Layer: actions; values only. A description is read from source text or told by a worker (`catalogue`), so it
says nothing that would need the project's code to be imported here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from codomyrmex.logistics.orchestration.project.actions.named_types import Lookup, nothing
from codomyrmex.logistics.orchestration.project.actions.parameter_schema import schema_of_parameters


class Origin(StrEnum):
    """Where an action was found; members in the order of search."""

    BUILT_IN = "built-in"
    """One of `shell`, `python`, `http` and `files`."""
    FILE = "file"
    """A `./file.py` named by its path."""
    PROJECT = "project"
    """A module of the workflow file's folder, of the root, or of the root's `src`."""
    SETTING = "setting"
    """A module that `[actions] modules` lends under the last part of its name."""
    ENTRY_POINT = "entry point"
    """Offered by an installed package in the group `codomyrmex.actions`."""
    INSTALLED = "installed"
    """A module that the interpreter has."""
    CODOMYRMEX = "codomyrmex"
    """A module of this package, named without `codomyrmex.`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterDescription:
    """One parameter of an action.

    `annotation` and `default` are source text, `json_type` the JSON Schema type that the annotation stands
    for, or None where it stands for none or for several. `hint` is the annotation with its names resolved, where a
    worker told it; `description` what the docstring says, as one line.
    """

    name: str
    annotation: str | None = None
    json_type: str | None = None
    required: bool = True
    default: str | None = None
    positional_only: bool = False
    hint: str | None = None
    description: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON; what is not known is left out."""
        found = {
            "name": self.name,
            "annotation": self.annotation,
            "type": self.json_type,
            "required": self.required,
            "default": self.default,
            "description": self.description or None,
        }
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionDescription:
    """An action as far as it can be known without importing it here.

    `target` is the module and action that a worker, or `load_function`, has to be asked for: it differs from
    the name where that came from `[actions] modules`, an entry point or `@action(name=...)`. `accepts_any`
    means that any parameter may be given: the action takes `**kwargs`, or its signature is not known
    (`is_known` False). `registered` says that it was declared with `@action`. `lookup` tells what the names in
    its annotations mean; `returns` is that of its value.
    """

    module: str
    action: str
    origin: Origin
    target: tuple[str, str]
    file: str | None = None
    line: int | None = None
    summary: str = ""
    parameters: tuple[ParameterDescription, ...] = ()
    accepts_any: bool = False
    is_known: bool = True
    is_async: bool = False
    registered: bool = False
    effects: str = "idempotent"
    isolation: str | None = None
    timeout_s: float | None = None
    resources: Mapping[str, Any] = field(default_factory=dict)
    returns: str | None = None
    is_generator: bool = False
    lookup: Lookup = field(default=nothing, compare=False, repr=False)

    @property
    def name(self) -> str:
        """As it is written after `call:`."""
        return f"{self.module}{'.' if self.origin is Origin.BUILT_IN else ':'}{self.action}"

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON Schema of the object of its parameters; made anew at each use."""
        return schema_of_parameters(
            self.parameters,
            lookup=self.lookup,
            accepts_any=self.accepts_any or not self.is_known,
            summary=self.summary,
        )

    def to_dict(self) -> dict[str, Any]:
        """Every field as JSON, and the schema of its parameters."""
        return {
            "name": self.name,
            "module": self.module,
            "action": self.action,
            "origin": self.origin.value,
            "file": self.file,
            "line": self.line,
            "summary": self.summary,
            "parameters": [parameter.to_dict() for parameter in self.parameters],
            "schema": self.schema,
            "returns": self.returns,
            "accepts_any": self.accepts_any,
            "is_known": self.is_known,
            "is_async": self.is_async,
            "registered": self.registered,
            "effects": self.effects,
            "isolation": self.isolation,
            "timeout_s": self.timeout_s,
            "resources": dict(self.resources),
        }
