"""From a committed start to an outcome: makes the `Attempt`, picks its executor, keeps its result.

Layer: above the executors, below the orchestrator. Called in the slots, outside the drain's lock: a
reference is resolved here, once, from values that no longer change, and a parameter that cannot be
resolved is a failure of its step.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping
from enum import Enum
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from codomyrmex.exceptions import EngineClosed, StoreError
from codomyrmex.logistics.orchestration.project.actions.loading import load_function
from codomyrmex.logistics.orchestration.project.executors.attempt import (
    Attempt,
    Begun,
    ErrorInfo,
    Executor,
    MustWait,
    Outcome,
    OutcomeKind,
    WarmExecutor,
)
from codomyrmex.logistics.orchestration.project.executors.interpreter import choose_interpreter
from codomyrmex.logistics.orchestration.project.executors.thread import ThreadExecutor
from codomyrmex.logistics.orchestration.project.gpu_choice import gpu_environment
from codomyrmex.logistics.orchestration.project.resource_request import Grant
from codomyrmex.logistics.orchestration.project.result_files import ResultFiles
from codomyrmex.logistics.orchestration.project.run_scope import RunScope, scope_of
from codomyrmex.logistics.orchestration.project.run_state import RunOptions, RunState
from codomyrmex.logistics.orchestration.project.states import Isolation
from codomyrmex.logistics.orchestration.project.step_spec import StepSpec
from codomyrmex.logistics.orchestration.project.values import encode_tree

_Where = tuple[Isolation, Callable[..., Any] | None]
if TYPE_CHECKING:
    from codomyrmex.logistics.orchestration.project.step_cache import StepCaching

NO_PARAMETERS = b"{}"
NO_VARIABLES: Mapping[str, str] = {}
READ_AGAIN_S = (0.05, 0.2, 0.5, 1.0, 2.0, None)
"""How patiently a store that cannot be read just now is asked again, and then the step fails for it."""
LOSSES_IN_THREADS = 3
"""A thread task in flight at so many engine deaths runs in a process from then on."""


ReadSecrets = Callable[[Collection[str]], Mapping[str, str]]
"""The values of secrets by name; raises where one is missing."""


class MemoryLimit(str, Enum):
    """What holds an attempt in a worker process to the memory that its step asks for."""

    WATCH = "watch"
    """Its process tree is measured and ended when it uses more."""
    HARD = "hard"
    """That, and each of its processes cannot reserve more address space (RLIMIT_AS): an allocation fails at once."""
    NONE = "none"
    """Nothing: the amount is only accounted."""


class AttemptRunner:
    """Runs attempts of the runs of one engine; see the module."""

    def __init__(
        self,
        executors: Mapping[Isolation, Callable[[], Executor]],
        *,
        epoch: int,
        state_dir: Path | None,
        results: ResultFiles,
        caching: Callable[[], StepCaching] | None = None,
        read_secrets: ReadSecrets | None = None,
        memory_limit: MemoryLimit = MemoryLimit.WATCH,
    ) -> None:
        self._read_secrets = read_secrets
        self._memory_limit = memory_limit
        self._device_env: dict[tuple[str, ...], Mapping[str, str]] = {}
        self._make_caching = caching
        self._caching: StepCaching | None = None
        """The cache of steps; without one every step runs."""
        self._factories = executors
        self._executors: dict[Isolation, Executor] = {}
        self._making = Lock()
        self._closed = False
        self._warm: WarmExecutor | None = None
        """That of process isolation, once it has been wanted."""
        self._epoch = epoch
        self._state_dir = None if state_dir is None else str(state_dir)
        self._results = results
        self._folders: set[str] = set()
        self._interpreters: dict[tuple[str, str], str] = {}
        self._functions: dict[tuple[str, str, tuple[str, ...]], Callable[..., Any]] = {}

    def run(self, run: RunState, position: int, number: int, grant: Grant) -> Outcome:
        """Runs one attempt to its end; never raises for what the action or its parameters did."""
        for pause_s in READ_AGAIN_S:
            try:
                return self._kept(self._run(run, position, number, grant))
            except StoreError as error:  # an output of another step could not be read just now
                if pause_s is None:
                    return _refused(error)
                time.sleep(pause_s)
            except Exception as error:  # noqa: BLE001 - the attempt boundary: a parameter, or an import, of the user
                return _refused(error)
        raise AssertionError("the last try returns")

    def begin(self, run: RunState, position: int, number: int, grant: Grant) -> Begun | Outcome | None:
        """Starts an attempt in a warm worker without waiting; None where that takes `run`.

        An outcome where it cannot be started at all.
        """
        if self._warm is None or self._cache(run, position):
            return None
        try:
            return self._warm.begin(self._attempt(run, position, number, grant, (Isolation.PROCESS, None)))
        except Exception as error:  # noqa: BLE001 - the attempt boundary, as in `run`
            return _refused(error)

    def collect(self, begun: Begun) -> Outcome | None:
        """The outcome of what `begin` started, once it is there; see `Begun.collect`."""
        try:
            outcome = begun.collect()
            return None if outcome is None else self._kept(outcome)
        except MustWait:
            raise
        except Exception as error:  # noqa: BLE001 - the attempt boundary: an answer that cannot be read
            return _refused(error)

    def complete(self, begun: Begun) -> Outcome:
        """Waits for the outcome of what `begin` started, after `MustWait`."""
        return self._kept(begun.complete())

    def _kept(self, outcome: Outcome) -> Outcome:
        if outcome.result is not None and len(outcome.result) > 1024:
            outcome.result = self._results.put(outcome.result)
        return outcome

    def caching(self) -> StepCaching:
        """What looks results up; made when a step with a cache is first met."""
        assert self._make_caching is not None
        if self._caching is None:
            self._caching = self._make_caching()
        return self._caching

    def executor(self, isolation: Isolation) -> Executor:
        """The executor of an isolation, made when first wanted."""
        found = self._executors.get(isolation)
        if found is not None:
            return found
        with self._making:
            found = self._executors.get(isolation)
            if found is None and self._closed:
                raise EngineClosed("the engine is being shut down; nothing new starts")
            if found is None:
                found = self._executors[isolation] = self._factories[isolation]()
            if isolation is Isolation.PROCESS and isinstance(found, WarmExecutor):
                self._warm = found
        return found

    def stop(self, run: RunState, position: int, *, kill: bool) -> bool:
        """Asks the attempt of a position to end, wherever it runs; False when it has not begun, or has ended."""
        token = self._token(run, run.name_of(position), run.attempts[position])
        return any(executor.cancel(token, kill=kill) for executor in list(self._executors.values()))

    def close(self) -> None:
        """Ends everything that still runs."""
        with self._making:
            self._closed = True
        for executor in list(self._executors.values()):
            executor.close()
        self._results.close()

    def log_path(self, run_id: str, task: str, number: int) -> str | None:
        """Where the log of an attempt is kept, if anywhere."""
        return None if self._state_dir is None else f"{self._state_dir}/runs/{run_id}/{task}.{number}.log"

    def _token(self, run: RunState, task: str, number: int) -> str:
        return f"{self._epoch}.{run.id}.{task}.{number}"

    def _run(self, run: RunState, position: int, number: int, grant: Grant) -> Outcome:
        step = position if position < run.step_count else run.step_of(position)
        where = self._where(run, step, position)
        if self._cache(run, position):
            return self._run_cached(run, position, number, grant, where)
        return self._execute(run, position, number, grant, where)

    def _cache(self, run: RunState, position: int) -> bool:
        """Whether a look-up goes before the action: it reads files, so a thread that may wait does it."""
        caches = run.workflow.caches
        return bool(caches) and self._make_caching is not None and run.step_of(position) in caches

    def _run_cached(self, run: RunState, position: int, number: int, grant: Grant, where: _Where) -> Outcome:
        from codomyrmex.logistics.orchestration.project.step_cache import Question

        caching = self.caching()
        started_us, started_ns = time.time_ns() // 1000, time.monotonic_ns()
        question = Question(run=run, position=position, scope=scope_of(run, position), function=where[1])
        asked = caching.ask_settled(question)
        entry = None if run.options.force else caching.find(asked)
        if entry is None:
            outcome = self._kept(self._execute(run, position, number, grant, where))
            if outcome.kind is OutcomeKind.COMPLETED:
                outcome.cache_row = caching.row(asked, outcome.result or b"null")
            return outcome
        duration_ns = time.monotonic_ns() - started_ns
        return Outcome(
            kind=OutcomeKind.COMPLETED,
            started_us=started_us,
            ended_us=started_us + duration_ns // 1000,
            duration_s=duration_ns / 1e9,
            result=entry.result,
            cached=True,
        )

    def _execute(self, run: RunState, position: int, number: int, grant: Grant, where: _Where) -> Outcome:
        step = position if position < run.step_count else run.step_of(position)
        isolation, function = where
        executor = self._executors.get(isolation) or self.executor(isolation)
        if not isinstance(executor, ThreadExecutor):
            return executor.run(self._attempt(run, position, number, grant, where))
        template = run.workflow.templates[step]
        parameters = NO_PARAMETERS if template is None else self._parameters(run, position)
        name = run.workflow.names[step] if step == position else run.name_of(position)
        token = f"{self._epoch}.{run.id}.{name}.{number}"
        return executor.call(
            function,
            parameters,
            token,
            lambda: self._attempt(run, position, number, grant, where),
            self._secrets_of(run, step),
        )

    def _attempt(self, run: RunState, position: int, number: int, grant: Grant, where: _Where) -> Attempt:
        options, spec, folder = run.options, run.spec_of(position), self._state_dir
        isolation, function = where
        scope = scope_of(run, position) if spec.env is not None or spec.working_dir is not None else None
        task = run.name_of(position)
        task_id = f"{run.id}.{task}"
        attempt = Attempt(
            token=f"{self._epoch}.{task_id}.{number}",
            run_id=run.id,
            workflow=run.workflow.name,
            task=task,
            task_id=task_id,
            number=number,
            epoch=self._epoch,
            module=spec.module,
            action=spec.action,
            function=function,
            isolation=isolation.value,
            parameters=self._parameters(run, position),
            timeout_s=spec.timeout_s,
            env=spec.env.resolve(scope) if spec.env is not None and scope is not None else NO_VARIABLES,
            working_dir=options.root if scope is None else self._working_dir(spec, scope, options.root),
            python=self._interpreter(spec.python or options.python, options.root),
            roots=options.roots,
            log_path=self.log_path(run.id, task, number),
            checkpoint_dir=None if folder is None else f"{folder}/checkpoints/{run.id}/{task}",
            artifact_dir=None if folder is None else f"{folder}/artifacts/{run.id}",
            files=self._results.values,
            idempotency_key=task_id,
        )
        if run.workflow.secrets:
            attempt.secrets = self._secrets_of(run, run.step_of(position))
        if isolation is Isolation.PROCESS:
            self._make_folder(run.id)
            self._bound(attempt, grant, options)
        return attempt

    def _bound(self, attempt: Attempt, grant: Grant, options: RunOptions) -> None:
        """What a worker process is held to: the threads, memory and devices that it was given."""
        request = grant.request
        attempt.threads = max(1, request.cpu_milli // 1000)
        if self._memory_limit is not MemoryLimit.NONE:
            attempt.memory_bytes = request.memory_bytes
            attempt.memory_hard = self._memory_limit is MemoryLimit.HARD
        attempt.gpu_env = self._devices(grant.gpus)
        attempt.clean_env = options.clean_env

    def _devices(self, gpus: tuple[str, ...]) -> Mapping[str, str]:
        found = self._device_env.get(gpus)
        if found is None:
            found = self._device_env[gpus] = gpu_environment(gpus, os.environ)
        return found

    def _secrets_of(self, run: RunState, step: int) -> Mapping[str, str]:
        names = run.workflow.secrets.get(step) if run.workflow.secrets else None
        if not names:
            return NO_VARIABLES
        assert self._read_secrets is not None
        return self._read_secrets(names)

    def _parameters(self, run: RunState, position: int) -> bytes:
        template = run.workflow.templates[run.step_of(position)]
        return NO_PARAMETERS if template is None else encode_tree(template.resolve(scope_of(run, position)))

    def _where(self, run: RunState, step: int, position: int) -> tuple[Isolation, Callable[..., Any] | None]:
        workflow = run.workflow
        spec = workflow.specs[workflow.spec_of[step]]
        isolation = spec.isolation
        if isolation is Isolation.PROCESS:
            return isolation, None
        function = workflow.functions.get(workflow.names[step])
        if run.losses and run.losses.get(position, 0) >= LOSSES_IN_THREADS and _movable(function):
            return Isolation.PROCESS, None
        if function is None:
            key = (spec.module, spec.action, run.options.roots)
            function = self._functions.get(key)
            if function is None:
                function = load_function(spec.module, spec.action, run.options.roots, _path(run.options.file))
                self._functions[key] = function
        return isolation, function

    def _working_dir(self, spec: StepSpec, scope: RunScope, root: str) -> str:
        if spec.working_dir is None:
            return root
        return str(Path(root, str(spec.working_dir.resolve(scope))))

    def _interpreter(self, asked: str | None, root: str) -> str | None:
        """The interpreter that a step asked for; None leaves it to the executor."""
        if asked is None:
            return None
        found = self._interpreters.get((asked, root))
        if found is None:
            found = self._interpreters[asked, root] = choose_interpreter(asked, root=root).path
        return found

    def _make_folder(self, run_id: str) -> None:
        if self._state_dir is not None and run_id not in self._folders:
            try:
                Path(self._state_dir, "runs", run_id).mkdir(parents=True, exist_ok=True)
            except OSError:
                return  # a full disk; whoever has something to log makes it
            self._folders.add(run_id)


def importable(function: Callable[..., Any]) -> bool:
    """True for a function that another process can find by module and name."""
    qualified = getattr(function, "__qualname__", "<")
    return "<" not in qualified and getattr(function, "__module__", "__main__") != "__main__"


def _movable(function: Callable[..., Any] | None) -> bool:
    return function is None or importable(function)


def _path(file: str | None) -> Path | None:
    return None if file is None else Path(file)


def _refused(error: Exception) -> Outcome:
    now_us = time.time_ns() // 1000
    name = type(error).__name__
    info = ErrorInfo(type=name, mro=(name,), message=str(error))
    return Outcome(kind=OutcomeKind.FAILED, started_us=now_us, ended_us=now_us, duration_s=0.0, error=info)
