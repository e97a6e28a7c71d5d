"""What a run would do with each step, said without running anything.

Layer: shell; above the cache of steps. The steps of main are gone through in the order of their graph. A
result that is kept counts as there, so what depends on it can be judged too; whatever depends on a step that
would run is unknown until it has run: by a reference, or because the step could write what another one reads.
All that runs is taken to succeed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from codomyrmex.logistics.orchestration.project.cache_store import CacheEntry
from codomyrmex.logistics.orchestration.project.expressions import EvaluationError, Reference
from codomyrmex.logistics.orchestration.project.file_hashes import InputMissing
from codomyrmex.logistics.orchestration.project.run_scope import RunScope, items_of_step
from codomyrmex.logistics.orchestration.project.run_selection import references_of
from codomyrmex.logistics.orchestration.project.run_state import BLOCKED, COMPLETED, SKIPPED, RunState
from codomyrmex.logistics.orchestration.project.states import TriggerRule
from codomyrmex.logistics.orchestration.project.step_cache import Question, StepCaching

WOULD_RUN = "would run"
WOULD_FAIL = "would fail"
WOULD_SKIP = "would be skipped"
CACHED = "cached"
REUSED = "reused"
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A result that an earlier run gives a step: of a fan-out, the items and the results of those completed."""

    run_id: str
    result: bytes | None = None
    items: list[Any] | None = None
    results: Mapping[int, bytes] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What would become of one step. `until` names the step that has to run before anybody can tell."""

    step: str
    verdict: str
    run_id: str | None = None
    until: str | None = None
    why: str | None = None
    item_count: int | None = None
    cached_count: int | None = None

    def __str__(self) -> str:
        if self.verdict == UNKNOWN:
            return f"unknown until {self.until} has run"
        if self.verdict in (CACHED, REUSED) and self.run_id is not None:
            return f"{self.verdict} (from run {self.run_id})"
        if self.cached_count:
            return f"{self.verdict} ({self.cached_count:,} of {self.item_count:,} items cached)"
        return self.verdict

    def to_dict(self) -> dict[str, Any]:
        """Every field."""
        return {
            "step": self.step,
            "verdict": self.verdict,
            "run": self.run_id,
            "until": self.until,
            "why": self.why,
            "items": self.item_count,
            "items_cached": self.cached_count,
        }


class Forecast:
    """Judges the steps of one run that will not be stored; `force` leaves the cache alone."""

    def __init__(self, run: RunState, caching: StepCaching, *, known: Mapping[str, Known]) -> None:
        self._run = run
        self._caching = caching
        self._known = known
        self._waits_for: dict[int, str] = {}
        """Per step that would run or is unknown, the first step that has to run before its result is there."""
        self._pending: dict[int, str] = {}
        """Per step, a step before it that would run, if there is any."""

    def verdicts(self) -> list[Verdict]:
        """One for each step of main, in the order of the definition."""
        workflow = self._run.workflow
        found: dict[int, Verdict] = {}
        for step in workflow.graph.order():
            if step < workflow.main_count:
                self._note_pending(step)
                found[step] = verdict = self._judge(step)
                self._settle(step, verdict)
        return [found[step] for step in sorted(found)]

    # -- one step --------------------------------------------------------------------------------

    def _judge(self, step: int) -> Verdict:
        run, name = self._run, self._run.workflow.names[step]
        known = self._known.get(name)
        if known is not None:
            self._take(step, known)
            return Verdict(step=name, verdict=REUSED, run_id=known.run_id)
        skipped = self._skipped(step)
        if skipped is not None:
            return Verdict(step=name, verdict=WOULD_SKIP, why=skipped)
        cache = run.workflow.caches.get(step)
        if cache is None:
            return Verdict(step=name, verdict=WOULD_RUN, why="it has no cache")
        if run.options.force:
            return Verdict(step=name, verdict=WOULD_RUN, why="asked for, whatever is kept")
        until = self._unknown(step)
        if until is not None:
            return Verdict(step=name, verdict=UNKNOWN, until=until)
        try:
            return self._items(step, name) if step in run.workflow.fan_outs else self._one(step, name)
        except (EvaluationError, InputMissing, OSError, ValueError) as error:
            return Verdict(step=name, verdict=WOULD_FAIL, why=str(error))

    def _one(self, step: int, name: str) -> Verdict:
        entry, why = self._look_up(step, RunScope(self._run))
        if entry is None:
            return Verdict(step=name, verdict=WOULD_RUN, why=why)
        self._take(step, Known(run_id=entry.run_id or "", result=entry.result))
        return Verdict(step=name, verdict=CACHED, run_id=entry.run_id)

    def _items(self, step: int, name: str) -> Verdict:
        run = self._run
        items = items_of_step(run, step)
        first = len(run.state)
        run.add_group(step, first, items)
        results: dict[int, bytes] = {}
        reason = source = None
        for index, item in enumerate(items):
            entry, why = self._look_up(first + index, RunScope(run, item=item, index=index))
            if entry is not None and entry.result is not None:
                results[index], source = entry.result, entry.run_id
            elif reason is None:
                reason = f"{name}[{index}]: {why}"
        total, cached = len(items), len(results)
        if cached < total:
            return Verdict(step=name, verdict=WOULD_RUN, why=reason, item_count=total, cached_count=cached)
        for index, result in results.items():
            run.outputs[first + index] = result
            run.move(first + index, COMPLETED)
        run.move(step, COMPLETED)
        return Verdict(step=name, verdict=CACHED, run_id=source, item_count=total, cached_count=cached)

    def _look_up(self, position: int, scope: RunScope) -> tuple[CacheEntry | None, str | None]:
        asked = self._caching.ask(Question(run=self._run, position=position, scope=scope))
        entry = self._caching.find(asked)
        return entry, None if entry is not None else self._caching.reason(asked)

    # -- what comes before it --------------------------------------------------------------------

    def _skipped(self, step: int) -> str | None:
        """Why a step would not run, as far as that can be told now."""
        run = self._run
        workflow = run.workflow
        parents = workflow.graph.parents(step)
        skipped = [workflow.names[each] for each in parents if run.state[each] == SKIPPED]
        rule = workflow.spec(step).trigger_rule
        if rule is TriggerRule.ONE_FAILED:
            return "it runs only after a failure"
        if skipped and (
            rule is TriggerRule.ALL_SUCCESS
            or (rule is TriggerRule.ONE_SUCCESS and len(skipped) == len(set(parents)))
        ):
            return f"{skipped[0]} would be skipped"
        condition = workflow.conditions.get(step)
        if condition is None or self._unknown_among(condition.references) is not None:
            return None
        try:
            holds = condition.evaluate(RunScope(run))
        except EvaluationError:
            return None
        return None if holds else "its condition does not hold"

    def _unknown(self, step: int) -> str | None:
        """The step that must have run before the key of this one can be worked out."""
        workflow = self._run.workflow
        until = self._unknown_among(references_of(workflow, step))
        if until is None and workflow.caches[step].inputs is not None:
            return self._pending.get(step)  # it may write what this one reads
        return until

    def _unknown_among(self, references: Iterable[Reference]) -> str | None:
        index = self._run.workflow.index
        for reference in references:
            step = index.get(reference.step or "") if reference.root == "steps" else None
            if step is not None and self._run.state[step] == BLOCKED:
                return self._waits_for.get(step, self._run.workflow.names[step])
        return None

    def _note_pending(self, step: int) -> None:
        for parent in self._run.workflow.graph.parents(step):
            found = self._waits_for.get(parent) or self._pending.get(parent)
            if found is not None:
                self._pending[step] = found
                return

    def _settle(self, step: int, verdict: Verdict) -> None:
        if verdict.verdict == WOULD_SKIP:
            self._run.move(step, SKIPPED)
        elif verdict.verdict not in (CACHED, REUSED):
            self._waits_for[step] = verdict.until or verdict.step

    def _take(self, step: int, known: Known) -> None:
        """Lets what depends on a step read its result."""
        run = self._run
        if known.items is not None:
            first = len(run.state)
            run.add_group(step, first, known.items)
            for index, result in (known.results or {}).items():
                run.outputs[first + index] = result
                run.move(first + index, COMPLETED)
        elif known.result is not None:
            run.outputs[step] = known.result
        run.move(step, COMPLETED)
