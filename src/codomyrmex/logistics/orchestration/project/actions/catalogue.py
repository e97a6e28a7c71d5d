"""Finding actions by module and name, listing them, and checking the steps of a workflow against them.

Layer: actions. Places are searched in this order, and the first that has the module is the one:

    built-in > ./file.py > the project (file's folder, root, root's src) > [actions] modules
             > entry points > installed modules > codomyrmex.<module>

Nothing of the project is imported here: source is read as text. What only running it would tell (a
decorator of the user's, a name bound by code, a C module) is asked of a worker through `describe`, which
gives what `executors.worker.describe.describe_actions` gives; without one, such an action is taken to be
there and to accept any parameter. A name that a later place has too is told of in `warnings`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from codomyrmex.exceptions import ActionNotFound, Fault
from codomyrmex.logistics.orchestration.project.actions import places
from codomyrmex.logistics.orchestration.project.actions.action_steps import action_steps
from codomyrmex.logistics.orchestration.project.actions.built_in import MODULES as BUILT_IN_MODULES
from codomyrmex.logistics.orchestration.project.actions.built_in import built_ins
from codomyrmex.logistics.orchestration.project.actions.description import ActionDescription, Origin
from codomyrmex.logistics.orchestration.project.actions.missing import FunctionMissing, ModuleMissing
from codomyrmex.logistics.orchestration.project.actions.module_search import ModuleSearch, Place, bare_name
from codomyrmex.logistics.orchestration.project.actions.named_types import Lookup
from codomyrmex.logistics.orchestration.project.actions.outline_names import OutlineNames
from codomyrmex.logistics.orchestration.project.actions.parameter_check import Found, ParameterCheck
from codomyrmex.logistics.orchestration.project.actions.returned import why_not_kept
from codomyrmex.logistics.orchestration.project.actions.signature import (
    Imported,
    Outline,
    Signature,
    SourceUnreadable,
    read_outline,
)
from codomyrmex.logistics.orchestration.project.actions.told import described_by_worker, refused_by_worker
from codomyrmex.logistics.orchestration.project.workflow_faults import nearest

if TYPE_CHECKING:
    from pathlib import Path

Pair = tuple[str, str]
Describe = Callable[[list[Pair]], list[dict[str, Any]]]
Faults = list[Found]
Answer = ActionDescription | ActionNotFound

_MAX_HOPS = 4
"""So many `from .x import y` are followed; what hides behind more is asked of a worker."""


@dataclass(frozen=True, slots=True)
class _Question:
    """What only a worker can answer; `otherwise` is the answer where there is none to ask."""

    target: Pair
    origin: Origin
    otherwise: Answer


class ActionCatalogue:
    """The actions that a workflow file (or, with `file` None, a caller) in a project can name.

    `modules` is `[actions] modules`; `python_path` the module search path of the interpreter that will run
    the actions, by default this one's. `warnings` grows with what `find` and `check` come across.
    """

    def __init__(
        self,
        root: Path,
        *,
        file: Path | None = None,
        modules: Sequence[str] = (),
        describe: Describe | None = None,
        python_path: Sequence[str] | None = None,
    ) -> None:
        self.roots = places.roots(root, file)
        self.warnings: list[str] = []
        self._search = ModuleSearch(self.roots, modules=modules, python_path=python_path)
        self._describe = describe
        self._outlines: dict[str, tuple[tuple[int, int, int], Outline | SourceUnreadable]] = {}
        self._codecs: bool | None = None

    def find(self, module: str, action: str) -> ActionDescription:
        """The action of this name; raises `ActionNotFound` (`ModuleMissing` or `FunctionMissing`)."""
        found = self._find_all([(module, action)])[module, action]
        if isinstance(found, ActionNotFound):
            raise found
        return found

    def list(self) -> list[ActionDescription]:
        """Every action that there is to choose from, in the order of search, each once.

        Built-ins; functions of the project that `@action` declares; every public function of `[actions]
        modules` and of entry points. Plain functions of the project and of installed modules can be found,
        but are not listed.
        """
        found = {
            (each.module, each.action): each for actions in built_ins().values() for each in actions.values()
        }
        warnings = [*self.warnings]
        offered = [*self._declared_pairs(), *self._lent_pairs(), *self._offered_pairs()]
        for pair, answer in self._find_all(pair for pair in offered if pair not in found).items():
            if isinstance(answer, ActionDescription):
                found[pair] = answer
        self.warnings = warnings  # a name that is only listed is not used, so it hides nothing
        order = [*Origin]
        return sorted(found.values(), key=lambda each: order.index(each.origin))

    def check(self, document: Mapping[str, Any], *, skip: Collection[str] = ()) -> Faults:
        """Every fault of the steps' actions and parameters, in the order of the steps, as (path, Fault).

        `document` is canonical (see `workflow_document`). Steps named in `skip` hold their function in memory
        and are not looked up. The Faults have no `path` text: the caller knows how places are written. What an
        action returns by its annotation and cannot be kept is added to `warnings`.
        """
        steps = [each for each in action_steps(document) if each[0] not in skip]
        pairs = {(step["module"], step["action"]) for _, step, _ in steps}
        checks: dict[Pair, ParameterCheck | tuple[str, Fault]] = {
            pair: ParameterCheck(answer) if isinstance(answer, ActionDescription) else _fault_of(answer)
            for pair, answer in self._find_all(sorted(pairs)).items()
        }
        found: Faults = []
        for _, step, place in steps:
            check = checks[step["module"], step["action"]]
            if isinstance(check, ParameterCheck):
                faults = check.faults(step, place)
                if faults:
                    found += faults
            else:
                key, fault = check
                found.append(((*place, key), fault))
        for check in checks.values():
            if isinstance(check, ParameterCheck):
                self.warn_of_result(check.described)
        return found

    # -------------------------------------------------------------------------------------------- look-ups

    def _find_all(self, pairs: Iterable[Pair]) -> dict[Pair, Answer]:
        """Each pair looked up once; what source does not tell is asked of the worker in one question."""
        found: dict[Pair, Answer] = {}
        questions: dict[Pair, _Question] = {}
        for pair in dict.fromkeys(pairs):
            try:
                answer = self._look_up(*pair)
            except ActionNotFound as problem:
                answer = problem
            if isinstance(answer, _Question):
                questions[pair] = answer
            else:
                found[pair] = answer
        found.update(self._ask(questions))
        return found

    def _ask(self, questions: Mapping[Pair, _Question]) -> dict[Pair, Answer]:
        if self._describe is None or not questions:
            return {pair: question.otherwise for pair, question in questions.items()}
        told = self._describe([question.target for question in questions.values()])
        found: dict[Pair, Answer] = {}
        for ((module, action), question), each in zip(questions.items(), told, strict=True):
            if each.get("found"):
                found[module, action] = described_by_worker(
                    each, module, action, origin=question.origin, target=question.target
                )
            else:
                known = question.otherwise if isinstance(question.otherwise, ActionNotFound) else None
                found[module, action] = refused_by_worker(each, module, action, known)
        return found

    def _look_up(self, module: str, action: str) -> Answer | _Question:
        if module in BUILT_IN_MODULES:
            self._warn_of_shadowed(module, Place(Origin.BUILT_IN, module, None))
            return _built_in(module, action)
        place = self._search.locate(module, action)
        if place is None:
            missing = self._search.missing(module, action)
            # The worker's interpreter may have packages that this one has not.
            may_be_there = self._search.is_own_python and not places.is_path(module)
            return _Question((module, action), Origin.INSTALLED, missing) if may_be_there else missing
        self._warn_of_shadowed(module, place)
        return self._in_module(place, module, action)

    def _in_module(self, place: Place, module: str, action: str) -> Answer | _Question:
        inside = place.inside(action)
        target = (place.module, inside)
        unread = ActionDescription(
            module=module,
            action=action,
            origin=place.origin,
            target=target,
            file=place.path,
            accepts_any=True,
            is_known=False,
        )
        if place.path is None:
            return _Question(target, place.origin, unread)
        try:
            outline = self._outline(place.path)
        except SourceUnreadable as problem:
            text = f"the module {module!r} cannot be read: {problem}"
            return _Question(target, place.origin, ModuleMissing(module, action, text))
        try:
            found = self._follow(outline, inside)
        except KeyError:
            return _function_missing(outline, module, inside)
        if found is None:
            return _Question(target, place.origin, unread)
        owner, signature = found
        if owner is outline and inside in outline.declared_names():
            target = (place.module, signature.name)
        lookup = OutlineNames(owner, self._followed)
        return _described(signature, unread, target=target, path=owner.path, lookup=lookup)

    def _follow(self, outline: Outline, action: str) -> tuple[Outline, Signature] | None:
        """The signature behind a name, through a few `from .x import y`; see `Outline.signature`."""
        for _ in range(_MAX_HOPS):
            signature = outline.signature(action)
            if signature is not None:
                return outline, signature
            head, dot, rest = action.partition(".")
            imported = outline.imported(head)
            path = (
                None if imported is None else self._source_of(outline.path, imported.level, imported.module)
            )
            if imported is None or path is None:
                return None
            try:
                outline = self._outline(path)
            except SourceUnreadable:
                return None
            if not outline.has(imported.name):
                return None  # a submodule, or a mistake in the project's own code: an import will tell
            action = f"{imported.name}{dot}{rest}"
        return None

    def _followed(self, outline: Outline, imported: Imported) -> Outline | None:
        """The module of the project that an import names, for the types in annotations."""
        path = self._source_of(outline.path, imported.level, imported.module)
        try:
            return None if path is None else self._outline(path)
        except SourceUnreadable:
            return None

    def _source_of(self, path: str, level: int, module: str) -> str | None:
        """The file that `from <level dots><module> import` in the file `path` reads."""
        if level == 0:
            try:
                place = self._search.locate(module)
            except ModuleMissing:
                return None
            return None if place is None else place.path
        folder = path
        for _ in range(level):
            folder = os.path.dirname(folder)
        if not module:
            package = os.path.join(folder, "__init__.py")
            return package if package != path and os.path.isfile(package) else None
        found = places.locate_module(module, [folder])
        return found.path if isinstance(found, places.Located) else None

    def _outline(self, path: str) -> Outline:
        """The outline of a file as it is now; raises `SourceUnreadable`."""
        try:
            state = os.stat(path)
            stamp = (state.st_mtime_ns, state.st_size, state.st_ino)
            known = self._outlines.get(path)
            if known is None or known[0] != stamp:
                known = self._outlines[path] = (stamp, _read(path))
        except OSError as problem:
            raise SourceUnreadable(f"{path}: {problem.strerror}") from None
        if isinstance(known[1], SourceUnreadable):
            raise known[1]
        return known[1]

    def _warn_of_shadowed(self, module: str, place: Place) -> None:
        if place.origin is Origin.PROJECT and module.partition(".")[0] in sys.stdlib_module_names:
            self._warn(
                f"{place.path} has a standard module's name and may not be what is imported; rename it"
            )
            return
        chosen = "the built-in one" if place.origin is Origin.BUILT_IN else place.path or place.module
        for other in self._search.shadowed(module, place):
            self._warn(f"module {module!r} is {chosen}; {other} has the same name and is not used")

    def warn_of_result(self, described: ActionDescription) -> None:
        """Adds to `warnings` why what an action says it returns could not be kept, if it could not."""
        reason = why_not_kept(described.returns, described.lookup, is_generator=described.is_generator)
        if reason is None or (reason[1] and self._registers_codecs()):
            return
        self._warn(
            f"{described.name} {reason[0]}; its step would fail as unserialisable "
            "(return JSON-able values, or a file's Path, or register a codec)"
        )

    def _registers_codecs(self) -> bool:
        """Whether the project has codecs, or packages that may: then a class of its own may well be kept."""
        from importlib.metadata import entry_points

        if self._codecs is None:
            paths = (path for root in self.roots for path in places.python_files(root))
            here = any(_holds(path, b"register_codec") for path in paths)
            self._codecs = here or bool(entry_points(group="codomyrmex.codecs"))
        return self._codecs

    def _warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)

    # --------------------------------------------------------------------------------------- what to list

    def _declared_pairs(self) -> Iterable[Pair]:
        seen: set[str] = set()
        for root in self.roots:
            for path in places.python_files(root):
                if path not in seen:
                    seen.add(path)
                    if _mentions_action(path):
                        module = places.module_name(path, self.roots)
                        yield from self._pairs_of(module, path, only_declared=True)

    def _lent_pairs(self) -> Iterable[Pair]:
        for name in self._search.lent:
            place = self._search.locate_lent(name)
            if place is not None and place.path is not None:
                short = bare_name(name)
                used = short if self._search.locate(short) == place else name
                yield from self._pairs_of(used, place.path, only_declared=False)

    def _offered_pairs(self) -> Iterable[Pair]:
        for offer in self._search.offers():
            module, _, action = offer.name.rpartition(".")
            if module and offer.is_action(module, action):
                yield module, action
            elif not offer.inside:
                place = self._search.locate_installed(offer.module)
                if place is not None and place.path is not None:
                    yield from self._pairs_of(offer.name, place.path, only_declared=False)

    def _pairs_of(self, module: str, path: str, *, only_declared: bool) -> Iterable[Pair]:
        try:
            outline = self._outline(path)
        except SourceUnreadable:
            return
        renamed = {function: name for name, function in outline.declared_names().items()}
        for name in outline.registered() if only_declared else outline.functions:
            if only_declared or not name.startswith("_"):
                yield module, renamed.get(name, name)


def _built_in(module: str, action: str) -> Answer:
    known = built_ins()[module]
    found = known.get(action)
    if found is not None:
        return found
    text = f"the built-in module {module!r} has no action {action!r}"
    hint = f"it has {', '.join(known)}"
    return FunctionMissing(module, action, text, known=[*known], nearest=nearest(action, known), hint=hint)


def _function_missing(outline: Outline, module: str, action: str) -> FunctionMissing:
    known = [*outline.known(), *outline.declared_names()]
    close = nearest(action, known)
    if action in outline.values:
        text = f"{action!r} in {outline.path} is a value, not a function"
    elif "<" in action:
        text = f"{action!r} is made inside another function and cannot be found again"
    else:
        text = f"the module {module!r} has no function {action!r}; looked in {outline.path}"
    hint = f"it has {', '.join(known[:10])}" if known else "it has no public functions"
    return FunctionMissing(module, action, text, known=known, nearest=close, hint=hint)


def _fault_of(problem: ActionNotFound) -> tuple[str, Fault]:
    """The key of the step that is wrong, and the fault."""
    in_module = isinstance(problem, FunctionMissing)
    return "action" if in_module else "module", Fault(
        message=getattr(problem, "reason", problem.message),
        code="unknown_action" if in_module else "unknown_module",
        got=problem.name,
        nearest=problem.nearest,
        advice=problem.hint if problem.nearest is None else None,
    )


def _described(
    signature: Signature, base: ActionDescription, *, target: Pair, path: str, lookup: Lookup
) -> ActionDescription:
    declared = signature.declared
    return ActionDescription(
        module=base.module,
        action=base.action,
        origin=base.origin,
        target=target,
        file=path,
        line=signature.line,
        summary=signature.summary,
        parameters=signature.parameters,
        accepts_any=signature.accepts_any,
        is_async=signature.is_async,
        registered=signature.registered,
        effects=declared.get("effects", "idempotent"),
        isolation=declared.get("isolation"),
        timeout_s=declared.get("timeout_s"),
        resources=declared.get("resources") or {},
        returns=signature.returns,
        is_generator=signature.is_generator,
        lookup=lookup,
    )


def _read(path: str) -> Outline | SourceUnreadable:
    try:
        return read_outline(path)
    except SourceUnreadable as problem:
        return problem


def _mentions_action(path: str) -> bool:
    """Whether a file can hold an `@action` of ours at all; most show without being parsed."""
    return _holds(path, b"codomyrmex", b"action")


def _holds(path: str, *words: bytes) -> bool:
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError:
        return False
    return all(word in content for word in words)
