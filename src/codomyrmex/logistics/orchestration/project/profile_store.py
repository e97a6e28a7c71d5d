"""What was learned that matters to some workflows, read from the profiles of a state.

Layer: beside `run_store`; reads only. The names of subjects and their rows are those of `performance.profiles`;
what they mean to a workflow is said by `expectations`.
"""

from __future__ import annotations

from collections.abc import Iterable

from codomyrmex.exceptions import StoreError
from codomyrmex.logistics.orchestration.project.compiled_workflow import CompiledWorkflow
from codomyrmex.logistics.orchestration.project.expectations import Expectation, Expectations
from codomyrmex.logistics.orchestration.project.telling_actions import telling_action
from codomyrmex.logistics.storage.database import Database
from codomyrmex.performance import profiles
from codomyrmex.performance.samples import WHATEVER_SIZE, median


def expectations_of(database: Database, names: Iterable[str], actions: Iterable[str]) -> Expectations:
    """What is known of the workflows of these names and of these actions (`module.action`).

    Three short queries for each workflow and one for each action, each name asked for once.
    """
    steps: dict[tuple[str, str], Expectation] = {}
    items: dict[tuple[str, str], float] = {}
    runs: dict[str, Expectation] = {}
    for name in dict.fromkeys(names):
        prefix = profiles.step_subject(name, "")
        for found in profiles.summaries_below(database, prefix):
            key = (name, found.subject[len(prefix) :])
            if found.durations is not None:
                steps[key] = Expectation(*found.durations)
            if found.items:
                items[key] = median(found.items)
        for found in profiles.summaries(database, profiles.run_subject(name)):
            if found.durations is not None:
                runs[name] = Expectation(*found.durations)
    by_action: dict[str, Expectation] = {}
    sizes: dict[tuple[str, int], Expectation] = {}
    for action in dict.fromkeys(actions):
        for found in profiles.summaries(database, profiles.action_subject(action)):
            if found.durations is None:
                continue
            expected = Expectation(*found.durations)
            if found.size_class == WHATEVER_SIZE:
                by_action[action] = expected
            else:
                sizes[action, found.size_class] = expected
    return Expectations(steps=steps, actions=by_action, items=items, runs=runs, sizes=sizes)


def actions_of(workflow: CompiledWorkflow) -> set[str]:
    """The actions of a workflow that are known by their names, as `expectations_of` wants them."""
    return {action for spec in workflow.specs if (action := telling_action(spec))}


def durations_of(database: Database, workflow: CompiledWorkflow) -> list[float] | None:
    """What each step is expected to take, in seconds: what the order of work goes by. None where nothing is known.

    A state that cannot be read just now holds up no work: nothing is known then.
    """
    try:
        learned = expectations_of(database, (workflow.name, *workflow.children), actions_of(workflow))
    except StoreError:
        return None
    found = learned.of_steps(workflow)
    return [each.median_s for each in found] if any(each.known for each in found) else None
