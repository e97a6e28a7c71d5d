"""One step with a cache, its attempt runner and a store, without an engine: what is asked, run and kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codomyrmex.clock import ManualClock
from codomyrmex.logistics.orchestration.project import cache_store
from codomyrmex.logistics.orchestration.project.attempt_runner import AttemptRunner, scope_of
from codomyrmex.logistics.orchestration.project.executors.attempt import Outcome
from codomyrmex.logistics.orchestration.project.executors.thread import ThreadExecutor
from codomyrmex.logistics.orchestration.project.resource_request import Grant
from codomyrmex.logistics.orchestration.project.result_files import ResultFiles
from codomyrmex.logistics.orchestration.project.run_state import RunOptions, RunState
from codomyrmex.logistics.orchestration.project.states import Isolation
from codomyrmex.logistics.orchestration.project.step_cache import Question, StepCaching
from codomyrmex.logistics.orchestration.project.values import to_tagged
from codomyrmex.logistics.orchestration.project.workflow_compiler import compile_workflow
from codomyrmex.logistics.storage.sqlite import SQLiteDatabase


class Bench:
    """Attempts of a workflow of one step, `fit`, in thread isolation; `calls` counts what really ran."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = SQLiteDatabase.open(":memory:")
        self.clock = ManualClock()
        self.results = ResultFiles(folder / ".results")
        self.caching = StepCaching(
            database=self.database, results=self.results, now_us=self.clock.now_us, python=None
        )
        self.runner = AttemptRunner(
            {Isolation.THREAD: ThreadExecutor},
            epoch=1,
            state_dir=None,
            results=self.results,
            caching=lambda: self.caching,
        )
        self.calls = 0
        self.numbers = 0

    def close(self) -> None:
        self.runner.close()
        self.database.close()

    def act(self, **parameters: Any) -> Any:
        """The action."""
        self.calls += 1
        writes = parameters.get("writes")
        if writes:
            (self.folder / writes).write_text(str(parameters))
        return parameters.get("big", 1) * "x" if "big" in parameters else self.calls

    def run(
        self,
        cache: Mapping[str, Any],
        parameters: Mapping[str, Any] | None = None,
        *,
        force: bool = False,
        environment: Mapping[str, str] | None = None,
        **step: Any,
    ) -> RunState:
        """A new run of the workflow."""
        self.numbers += 1
        document = {
            "name": "flow",
            "isolation": "thread",
            "steps": [
                {
                    "name": "fit",
                    "module": "caching_bench",
                    "action": "Bench.act",
                    "parameters": dict(parameters or {}),
                    "cache": dict(cache),
                    **step,
                }
            ],
        }
        root = str(self.folder)
        return RunState(
            number=self.numbers,
            id=f"run{self.numbers}",
            workflow=compile_workflow(document, functions={"fit": self.act}),
            parameters=to_tagged({}),
            options=RunOptions(root=root, roots=(root,), force=force, environment=environment or {}),
        )

    def attempt(self, run: RunState) -> Outcome:
        """Runs `fit` once and keeps what is to be kept, as the drain does."""
        outcome = self.runner.run(run, 0, 1, Grant(request=run.spec_of(0).request))
        if outcome.cache_row is not None:
            with self.database.transaction() as tx:
                cache_store.insert_many(tx, [outcome.cache_row])
        return outcome

    def fit(
        self, cache: Mapping[str, Any], parameters: Mapping[str, Any] | None = None, **more: Any
    ) -> Outcome:
        """`run` and `attempt`."""
        return self.attempt(self.run(cache, parameters, **more))

    def why(self, run: RunState) -> str:
        """What a dry run would say."""
        asked = self.caching.ask(Question(run=run, position=0, scope=scope_of(run, 0)))
        return self.caching.reason(asked)
