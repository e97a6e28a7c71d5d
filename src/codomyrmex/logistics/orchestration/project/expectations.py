"""How long the steps of a workflow are expected to take: what was learned, what somebody says, or a guess.

Layer: pure. `profile_store.expectations_of` reads what was learned. A step is known by its own attempts; else
by those of its action, with parameters of about the same size where these are constant; else its duration is
a guess, which says of itself that it is one. All times are seconds of one attempt that completed: of one item
where the step is a fan-out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from codomyrmex.logistics.orchestration.project.compiled_workflow import CompiledWorkflow
from codomyrmex.logistics.orchestration.project.states import StepKind
from codomyrmex.logistics.orchestration.project.telling_actions import telling_action
from codomyrmex.logistics.orchestration.project.values import encode_tree
from codomyrmex.logistics.orchestration.project.waiting_spec import WaitingSpec
from codomyrmex.performance.samples import AT_ONCE_S, LARGE, median, size_class

EMPTY_BYTES = len(b"{}")
"""The size of no parameters."""
GUESS_S = 1.0
"""What a step is taken to need where nothing is known of any step of its workflow."""


class Expectation(NamedTuple):
    """How long something takes: half of the times no longer than `median_s`, nine in ten no longer than `p90_s`."""

    median_s: float
    p90_s: float
    known: bool = True
    """False for a guess."""


NOTHING_LEARNED = Expectation(0.0, 0.0, known=False)
AT_ONCE = Expectation(AT_ONCE_S / 2, AT_ONCE_S)


@dataclass(slots=True, kw_only=True)
class Expectations:
    """What was learned that matters to one workflow and the workflows that its steps start, all by name."""

    steps: Mapping[tuple[str, str], Expectation] = field(default_factory=dict)
    """By workflow and step."""
    actions: Mapping[str, Expectation] = field(default_factory=dict)
    """By `module.action`, whoever calls it."""
    items: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """By workflow and step, the median number of items of a fan-out."""
    runs: Mapping[str, Expectation] = field(default_factory=dict)
    """By workflow, a whole run."""
    sizes: Mapping[tuple[str, int], Expectation] = field(default_factory=dict)
    """By `module.action` and size class of its parameters."""
    given: Mapping[str, Expectation] = field(default_factory=dict)
    """What somebody said, which counts before anything learned: by `workflow/step`, step or `module.action`."""

    @classmethod
    def with_given(
        cls, durations: Mapping[str, float], *, learned: Expectations | None = None
    ) -> Expectations:
        """These durations (seconds by step, `workflow/step` or `module.action`) before what was learned."""
        given = {name: Expectation(float(value), float(value)) for name, value in durations.items()}
        if learned is None:
            return cls(given=given)
        return cls(
            steps=learned.steps,
            actions=learned.actions,
            items=learned.items,
            runs=learned.runs,
            sizes=learned.sizes,
            given={**learned.given, **given},
        )

    def of_steps(self, workflow: CompiledWorkflow) -> list[Expectation]:
        """One for each step number, of all phases; guesses take the median of the steps that are known."""
        waiting = workflow.waiting
        if not (self.steps or self.actions or self.given or self.runs or waiting):
            return [self._guess([])] * len(workflow)
        by_spec = [telling_action(spec) for spec in workflow.specs]
        # A large workflow that has run before has rows of its own for all but those steps that were over at once.
        at_once = AT_ONCE if len(workflow) > LARGE and workflow.name in self.runs else None
        found: list[Expectation | None] = []
        for step, name in enumerate(workflow.names):
            said = self._said(workflow, step, name)
            if said is None and step in waiting:
                said = self._of_wait(waiting[step])
            elif said is None:
                said = at_once or self._of_action(workflow, step, by_spec[workflow.spec_of[step]])
            found.append(said)
        guess = self._guess([each for step, each in enumerate(found) if each and step not in waiting])
        return [guess if each is None else each for each in found]

    def _said(self, workflow: CompiledWorkflow, step: int, name: str) -> Expectation | None:
        """What somebody said of a step, or what is known of this very step."""
        if self.given:
            spec = workflow.spec(step)
            for key in (f"{workflow.name}/{name}", name, f"{spec.module}.{spec.action}"):
                if key in self.given:
                    return self.given[key]
        return self.steps.get((workflow.name, name))

    def _of_action(self, workflow: CompiledWorkflow, step: int, action: str) -> Expectation | None:
        """What is known of the action of a step, of parameters of that size where they are constant."""
        found = self.actions.get(action)
        if found is None or not self.sizes:
            return found
        template = workflow.templates[step]
        if template is not None and not template.constant:
            return found
        size = EMPTY_BYTES if template is None else len(encode_tree(template.fixed))
        return self.sizes.get((action, size_class(size)), found)

    def _of_wait(self, wait: WaitingSpec) -> Expectation:
        """A step without a slot: how long it stands open, as far as anybody can know."""
        if wait.kind is StepKind.SLEEP and wait.text is None:
            return Expectation(wait.sleep_s, wait.sleep_s)
        return self.runs.get(wait.child, NOTHING_LEARNED) if wait.child else NOTHING_LEARNED

    @staticmethod
    def _guess(known: list[Expectation]) -> Expectation:
        if not known:
            return Expectation(GUESS_S, GUESS_S, known=False)
        middle = median([each.median_s for each in known])
        return Expectation(middle, max(middle, median([each.p90_s for each in known])), known=False)
