"""The cache of steps: what a task's result depends on, whether it is kept already, and what to keep of it.

Layer: shell; above the cache's table, below the attempt runner. Asked in the slots, outside the drain's lock,
because files are read here. A look-up goes by the key of everything that the result depends on (`cache_key`);
what it finds counts only if

    it is no older than `ttl`, its value is whole, and every file in `outputs` is there as it was left.

A result is kept only if inputs and code are, after the action, what they were before it: an action that
changes its own inputs, or one whose source was edited while it ran, is not kept.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from codomyrmex.exceptions import StoreCorrupt
from codomyrmex.logging_monitoring import get_logger
from codomyrmex.logistics.orchestration.project import cache_store
from codomyrmex.logistics.orchestration.project.action_code import ActionCode, python_version
from codomyrmex.logistics.orchestration.project.cache_key import canonical, first_difference, kept, key_of
from codomyrmex.logistics.orchestration.project.cache_store import CacheEntry
from codomyrmex.logistics.orchestration.project.executors.interpreter import choose_interpreter
from codomyrmex.logistics.orchestration.project.file_hashes import (
    FileHashes,
    InputMissing,
    named_paths,
    shown,
)
from codomyrmex.logistics.orchestration.project.references import Template
from codomyrmex.logistics.orchestration.project.result_files import ResultFiles
from codomyrmex.logistics.orchestration.project.run_scope import RunScope
from codomyrmex.logistics.orchestration.project.run_state import RunState
from codomyrmex.logistics.orchestration.project.states import Isolation
from codomyrmex.logistics.orchestration.project.step_cache_spec import StepCache
from codomyrmex.logistics.orchestration.project.values import decode_tree
from codomyrmex.logistics.storage.database import Database, Row

NEVER_RAN = "never ran with a cache"
WORKERS_LOOK_S = 0.025
logger = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One task with a cache, before it runs: `function` is None where it is not to be run in this process."""

    run: RunState
    position: int
    scope: RunScope
    function: Callable[..., Any] | None = None

    @property
    def step(self) -> int:
        return self.run.step_of(self.position)

    @property
    def cache(self) -> StepCache:
        return self.run.workflow.caches[self.step]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the result of a task depends on; `folder` is the absolute folder that its paths start in."""

    question: Question
    parts: dict[str, Any]
    key: str
    folder: str
    outputs: tuple[object, ...] = ()


@dataclass(slots=True, kw_only=True)
class StepCaching:
    """The cache of one state.

    `python` is the interpreter that the settings name for workers, `now_us` the time by which results age.
    """

    database: Database | None
    """None: nothing has been kept yet."""
    results: ResultFiles
    now_us: Callable[[], int]
    python: str | None = None
    _hashes: FileHashes = field(default_factory=FileHashes, init=False)
    _code: ActionCode = field(init=False)
    _versions: dict[str, str] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._code = ActionCode(self._hashes)

    # -- before the action -----------------------------------------------------------------------

    def ask(self, question: Question) -> Asked:
        """Works out the key; raises `InputMissing`, OSError, and what resolving a template raises."""
        run, spec, cache = question.run, question.run.spec_of(question.position), question.cache
        folder = self._folder(question)
        outputs = tuple(_paths(cache.outputs, question.scope))
        parts: dict[str, Any] = {"action": f"{spec.module}:{spec.action}", "code": self._code_of(question)}
        if "version" not in parts["code"] and spec.module not in ("shell", "http", "files"):
            parts["python"] = python_version(self._interpreter(question), self._versions)
        if cache.key is not None:
            parts["key"] = kept(cache.key.resolve(question.scope))
        else:
            parts |= self._given(question, folder)
        if cache.also is not None:
            parts["also"] = _kept_tree(cache.also.resolve(question.scope))
        if spec.working_dir is not None:
            parts["folder"] = shown(folder, run.options.root)
        if outputs:
            parts["outputs"] = [str(each) for each in outputs]
        return Asked(question=question, parts=parts, key=key_of(parts), folder=folder, outputs=outputs)

    def ask_settled(self, question: Question) -> Asked:
        """`ask`, after warm workers have had time to see code that was edited just now.

        They look at most every 20 ms, so until then the key could be of newer code than what runs.
        """
        asked = self.ask(question)
        rest_s = WORKERS_LOOK_S - _youngest_s(asked.parts["code"].get("files", ()), question.run.options.root)
        if rest_s <= 0:
            return asked
        time.sleep(min(rest_s, WORKERS_LOOK_S))
        return self.ask(question)

    def find(self, asked: Asked) -> CacheEntry | None:
        """The kept result that counts, if there is one."""
        entry = self._entry(asked)
        return entry if entry is not None and self._fault(asked, entry) is None else None

    def reason(self, asked: Asked) -> str:
        """Why `find` found nothing: what differs from the newest result of the step."""
        entry = self._entry(asked)
        if entry is not None:
            return self._fault(asked, entry) or "nothing differs"
        question = asked.question
        run = question.run
        name, item = run.workflow.names[question.step], run.item_number(question.position)
        before = self.database and cache_store.latest(self.database, run.workflow.name, name, item)
        if not before:
            return NEVER_RAN
        return first_difference(before.parts, asked.parts) or NEVER_RAN

    # -- after it --------------------------------------------------------------------------------

    def row(self, asked: Asked, result: bytes) -> Row | None:
        """The row that keeps a result, for the transaction that records it; None where it cannot be kept."""
        question = asked.question
        run = question.run
        name = run.name_of(question.position)
        try:
            now = self._given(question, asked.folder) if question.cache.key is None else {}
            if any(asked.parts.get(part) != now[part] for part in now):
                logger.warning("step %r changed its own inputs while it ran: its result is not kept", name)
                return None
            if self._code_of(question) != asked.parts["code"]:
                return None
            outputs = self._hashes.of_all(asked.outputs, asked.folder)
        except (InputMissing, OSError) as error:
            logger.warning("the result of step %r is not kept: %s", name, error)
            return None
        item = run.item_number(question.position)
        place = (run.workflow.name, run.workflow.names[question.step], item, run.number, question.position)
        return cache_store.row_of(asked.key, place, asked.parts, result, outputs, self.now_us())

    # -- inside ----------------------------------------------------------------------------------

    def _entry(self, asked: Asked) -> CacheEntry | None:
        return None if self.database is None else cache_store.find(self.database, asked.key)

    def _fault(self, asked: Asked, entry: CacheEntry) -> str | None:
        """Why a kept result does not count; None where it does."""
        ttl_s = asked.question.cache.ttl_s
        if ttl_s is not None and self.now_us() - entry.created_us > ttl_s * 1_000_000:
            return f"older than its ttl of {_duration_text(ttl_s)}"
        if entry.result is None:
            return "the kept result is damaged"
        try:
            data = self.results.get(entry.result)
        except StoreCorrupt as error:
            return f"the kept result cannot be used: {error}"
        if data is not None and not all(os.path.isfile(path) for path in self._value_files(data)):
            return "a file of the kept result is gone"
        for path, digest in entry.outputs.items():
            try:
                now = self._hashes.of(os.path.join(asked.folder, path))
            except (OSError, InputMissing):
                return f"output {path} is gone"
            if now != digest:
                return f"output {path} changed"
        return None

    def _value_files(self, data: bytes) -> Iterator[str]:
        """The files of values with a codec that a result names."""
        if b'"sha256"' in data:
            for tag in _file_tags(decode_tree(data)):
                yield os.path.join(self.results.values.folder, tag["sha256"] + tag["suffix"])

    def _given(self, question: Question, folder: str) -> dict[str, Any]:
        """Parameters, variables and the content of inputs."""
        run, spec, scope = question.run, question.run.spec_of(question.position), question.scope
        parts: dict[str, Any] = {}
        template = run.workflow.templates[question.step]
        resolved = template.resolve(scope) if template is not None else {}
        if resolved:
            private = _private(template, scope)
            parts["parameters"] = {name: _kept_tree(value, private) for name, value in resolved.items()}
        if spec.env is not None:
            variables = spec.env.resolve(scope)
            parts["env"] = {name: key_of({"value": value}) for name, value in variables.items()}
        inputs = list(_paths(question.cache.inputs, scope))
        if spec.module == "python" and resolved.get("script") is not None:
            inputs += named_paths(resolved["script"])
        if inputs:
            parts["inputs"] = self._hashes.of_all(inputs, folder)
        return parts

    def _folder(self, question: Question) -> str:
        spec, root = question.run.spec_of(question.position), question.run.options.root
        if spec.working_dir is None:
            return root
        return os.path.normpath(os.path.join(root, str(spec.working_dir.resolve(question.scope))))

    def _code_of(self, question: Question) -> dict[str, Any]:
        run, spec = question.run, question.run.spec_of(question.position)
        return self._code.of(
            spec.module,
            spec.action,
            function=question.function,
            roots=run.options.roots,
            root=run.options.root,
            python=self._interpreter(question),
        )

    def _interpreter(self, question: Question) -> str:
        spec, options = question.run.spec_of(question.position), question.run.options
        if spec.isolation is not Isolation.PROCESS:
            return sys.executable
        asked = spec.python or options.python
        return choose_interpreter(asked, root=options.root, configured=self.python).path


def _duration_text(seconds: float) -> str:
    """`7d`, `90s`: in the largest unit that goes into it."""
    units = ((86_400, "d"), (3600, "h"), (60, "m"))
    for size, unit in units:
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"


def _youngest_s(paths: Iterable[str], root: str) -> float:
    """How long ago the last of these files was changed."""
    changed_ns = 0
    for path in paths:
        with suppress(OSError):
            changed_ns = max(changed_ns, os.stat(os.path.join(root, path)).st_mtime_ns)
    return (time.time_ns() - changed_ns) / 1e9


def _file_tags(tree: Any) -> Iterator[dict[str, Any]]:
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            value = node.get("value")
            if node.get("$type") == "file" and isinstance(value, dict) and "sha256" in value:
                yield value
            pending.extend(node.values())
        elif isinstance(node, list):
            pending.extend(node)


def _paths(template: Template | None, scope: RunScope) -> list[object]:
    return [] if template is None else list(named_paths(template.resolve(scope)))


def _private(template: Template | None, scope: RunScope) -> tuple[str, ...]:
    """The values of environment variables that parameters are made of: they are kept as hashes."""
    references = template.references if template is not None else ()
    names = [str(each.path[0]) for each in references if each.root == "env" and each.path]
    return tuple(text for name in names if (text := scope.env.get(name)))


def _kept_tree(value: Any, private: tuple[str, ...] = ()) -> Any:
    """A value for the parts: of a long mapping the names stay, so that a difference can be told by name."""
    if isinstance(value, dict) and "$type" not in value and len(canonical(value)) > 100 and len(value) <= 50:
        return {name: kept(each, private=private) for name, each in value.items()}
    return kept(value, private=private)
