"""What a step says of its cache: what its result depends on besides its action and its parameters.

Layer: pure. Made by the compiler from the step's `cache`; read in the slot, before an attempt begins
(`step_cache`), and by the forecast of a dry run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from codomyrmex.exceptions import Fault
from codomyrmex.logistics.orchestration.project.expressions import ExpressionError, Reference
from codomyrmex.logistics.orchestration.project.references import Template, compile_template

TEMPLATE_KEYS = ("inputs", "outputs", "key", "also")
"""The keys of `cache` that may hold `${...}`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCache:
    """The `cache` of one step, compiled.

    `inputs` and `outputs` resolve to lists of paths or patterns, relative to the step's working folder; `key`,
    where it is given, stands for parameters and inputs; `ttl_s` None keeps a result for ever.
    """

    inputs: Template | None = None
    outputs: Template | None = None
    key: Template | None = None
    also: Template | None = None
    ttl_s: float | None = None

    @classmethod
    def of(cls, mapping: Mapping[str, Any]) -> StepCache:
        """The cache that a canonical document means; raises `ExpressionError` whose `path` begins with the key."""
        templates = {name: _compiled(name, mapping[name]) for name in TEMPLATE_KEYS if name in mapping}
        return cls(**templates, ttl_s=mapping.get("ttl_s"))

    @property
    def references(self) -> Iterator[Reference]:
        """Everything that the templates read."""
        for template in (self.inputs, self.outputs, self.key, self.also):
            if template is not None:
                yield from template.references


def cache_fault(step: Mapping[str, Any]) -> Fault | None:
    """What is wrong with a cache beside the other keys of a canonical step; None where nothing is."""
    if step.get("effects") != "unsafe":
        return None
    return Fault(
        message="a step whose effects are unsafe cannot have a cache: a cached result would leave them out",
        code="unsafe_cache",
        advice="take `cache` out, or say `effects: idempotent` if its effects may be left out",
    )


def _compiled(name: str, tree: Any) -> Template:
    try:
        return compile_template(tree)
    except ExpressionError as error:
        error.path = (name, *error.path)
        raise
