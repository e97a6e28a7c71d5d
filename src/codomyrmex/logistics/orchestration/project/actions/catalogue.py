"""Finding actions by module and name, listing them, and checking the steps of a workflow against them.

Layer: actions. Places are searched in this order, and the first that has the module is the one:

    built-in > ./file.py > the project (file's folder, root, root's src) > [actions] modules
             > entry points > installed modules > codomyrmex.<module>

Nothing of the project is imported here: source is read as text. What only running it would tell (a decorator of
the user's, a name bound by code, a C module) is asked of a worker through `describe`, which gives what
`executors.worker.describe.describe_actions` gives; without one such an action is taken to be there and to accept any
parameter. A name that a later place has too is told of in `warnings`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codomyrmex.exceptions import ActionNotFound, Fault
from codomyrmex.logistics.orchestration.project.actions import places
from codomyrmex.logistics.orchestration.project.actions.built_in import MODULES as BUILT_IN_MODULES
from codomyrmex.logistics.orchestration.project.actions.built_in import built_ins
from codomyrmex.logistics.orchestration.project.actions.description import ActionDescription, Origin
from codomyrmex.logistics.orchestration.project.actions.entry_points import Offer, offers
from codomyrmex.logistics.orchestration.project.actions.missing import FunctionMissing, ModuleMissing
from codomyrmex.logistics.orchestration.project.actions.parameter_check import Found, ParameterCheck
from codomyrmex.logistics.orchestration.project.actions.signature import (
    Outline,
    Signature,
    SourceUnreadable,
    read_outline,
)
from codomyrmex.logistics.orchestration.project.actions.told import described_by_worker, refused_by_worker
from codomyrmex.logistics.orchestration.project.workflow_faults import nearest

Pair = tuple[str, str]
Describe = Callable[[list[Pair]], list[dict[str, Any]]]
_MAX_HOPS = 4


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a module was found; `path` is None where it has no source, `inside` a class that stands for it."""

    origin: Origin
    target: str
    path: str | None
    inside: str = ""


@dataclass(frozen=True, slots=True)
class _Question:
    """What only a worker can answer: `likely` is taken without one, `problem` raised."""

    target: Pair
    origin: Origin
    likely: ActionDescription | None = None
    problem: ActionNotFound | None = None


class ActionCatalogue:
    """The actions that a workflow file (or, with `file` None, a caller) in a project can name.

    `modules` is `[actions] modules`; `python_path` the module search path of the interpreter that will run the
    actions, by default this one's. `warnings` grows with what `find` and `check` come across.
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
        self._modules = tuple(modules)
        self._describe = describe
        self._python_path = python_path
        self._offers: list[Offer] | None = None
        self._outlines: dict[str, tuple[tuple[int, int], Outline | SourceUnreadable]] = {}

    # ------------------------------------------------------------------------------------------------ find

    def find(self, module: str, action: str) -> ActionDescription:
        """The action of this name; raises `ActionNotFound` (`ModuleMissing` or `FunctionMissing`)."""
        found = self._find_all([(module, action)])[module, action]
        if isinstance(found, ActionNotFound):
            raise found
        return found

    def _find_all(self, pairs: Iterable[Pair]) -> dict[Pair, ActionDescription | ActionNotFound]:
        """Each pair looked up once; what source does not tell is asked of the worker in one question."""
        found: dict[Pair, ActionDescription | ActionNotFound] = {}
        open_questions: dict[Pair, _Question] = {}
        for pair in dict.fromkeys(pairs):
            try:
                answer = self._look_up(*pair)
            except ActionNotFound as problem:
                answer = problem
            if isinstance(answer, _Question):
                open_questions[pair] = answer
            else:
                found[pair] = answer
        found.update(self._ask(open_questions))
        return found

    def _ask(self, questions: Mapping[Pair, _Question]) -> dict[Pair, ActionDescription | ActionNotFound]:
        found: dict[Pair, ActionDescription | ActionNotFound] = {}
        answers: list[dict[str, Any]] = []
        if self._describe is not None and questions:
            answers = self._describe([question.target for question in questions.values()])
        for number, ((module, action), question) in enumerate(questions.items()):
            likely, problem = question.likely, question.problem
            if number >= len(answers):
                assert problem is not None or likely is not None
                found[module, action] = problem if problem is not None else likely  # type: ignore[assignment]
            elif answers[number].get("found"):
                found[module, action] = described_by_worker(
                    answers[number], module, action, origin=question.origin, target=question.target
                )
            else:
                found[module, action] = refused_by_worker(answers[number], module, action, problem)
        return found

    def _look_up(self, module: str, action: str) -> ActionDescription | ActionNotFound | _Question:
        if module in BUILT_IN_MODULES:
            self._warn_of_shadowed(module, Origin.BUILT_IN, None)
            return self._built_in(module, action)
        exact = self._exact_offer(module, action)
        place = self._locate(module, action)
        if exact is not None and (place is None or place.origin in (Origin.INSTALLED, Origin.CODOMYRMEX)):
            return self._in_entry_point(exact, module, action)
        if place is None:
            # The worker's interpreter may have packages that this one has not.
            problem = self._module_missing(module, action)
            can_ask = not places.is_path(module) and self._python_path is None
            return _Question((module, action), Origin.INSTALLED, problem=problem) if can_ask else problem
        self._warn_of_shadowed(module, place.origin, place.path)
        inside = f"{place.inside}.{action}" if place.inside else action
        return self._in_module(place, module, action, inside)

    def _built_in(self, module: str, action: str) -> ActionDescription:
        known = built_ins()[module]
        found = known.get(action)
        if found is None:
            text = f"the built-in module {module!r} has no action {action!r}; it has {', '.join(known)}"
            raise FunctionMissing(module, action, text, known=tuple(known), nearest=nearest(action, known))
        return found

    def _in_entry_point(self, target: Pair, module: str, action: str) -> ActionDescription | _Question:
        place = self._locate_installed(target[0])
        found = _Place(Origin.ENTRY_POINT, target[0], place.path if place is not None else None)
        return self._in_module(found, module, action, target[1])

    def _in_module(
        self, place: _Place, module: str, action: str, inside: str
    ) -> ActionDescription | _Question:
        target = (place.target, inside)
        base = ActionDescription(
            module=module,
            action=action,
            origin=place.origin,
            target=target,
            file=place.path,
            accepts_any=True,
            is_known=False,
        )
        if place.path is None:
            return _Question(target, place.origin, likely=base)
        try:
            outline = self._outline(place.path)
        except SourceUnreadable as problem:
            refusal = ModuleMissing(module, action, f"the module {module!r} cannot be read: {problem}")
            return _Question(target, place.origin, problem=refusal)
        try:
            found = self._follow(outline, inside)
        except KeyError:
            raise self._function_missing(outline, module, action) from None
        if found is None:
            return _Question(target, place.origin, likely=base)
        owner, signature = found
        real = signature.name if "." not in inside and owner is outline else inside
        return _description(signature, module, action, place.origin, (place.target, real), owner.path)

    def _follow(self, outline: Outline, action: str) -> tuple[Outline, Signature] | None:
        """The signature behind a name, through a few `from .x import y`; KeyError where it is plainly missing."""
        for _ in range(_MAX_HOPS):
            signature = outline.signature(action)
            if signature is not None:
                return outline, signature
            head, dot, rest = action.partition(".")
            imported = outline.imported(outline.aliases.get(head, head))
            if imported is None:
                return None
            path = self._source_of_import(outline.path, imported.level, imported.module)
            if path is None:
                return None
            try:
                outline = self._outline(path)
            except SourceUnreadable:
                return None
            action = imported.name + dot + rest
            if not dot and imported.name not in outline.known():
                return None  # a submodule, or something private: not for us to say
        return None

    def _source_of_import(self, path: str, level: int, module: str) -> str | None:
        if level == 0:
            place = self._locate(module, "")
            return None if place is None else place.path
        folder = os.path.dirname(path)
        for _ in range(level - 1):
            folder = os.path.dirname(folder)
        found = places.locate_module(module, [folder]) if module else None
        if not module:
            init = os.path.join(folder, "__init__.py")
            return init if os.path.isfile(init) and init != path else None
        return found.path if isinstance(found, places.Located) else None

    def _outline(self, path: str) -> Outline:
        """The outline of a file as it is now; raises `SourceUnreadable`."""
        try:
            state = os.stat(path)
            stamp = (state.st_mtime_ns, state.st_size)
            known = self._outlines.get(path)
            if known is None or known[0] != stamp:
                known = self._outlines[path] = (stamp, _read(path))
        except OSError as problem:
            raise SourceUnreadable(f"{path}: {problem.strerror}") from None
        if isinstance(known[1], SourceUnreadable):
            raise known[1]
        return known[1]

    # ---------------------------------------------------------------------------------------------- locate

    def _locate(self, module: str, action: str) -> _Place | None:
        """The first place that has a module; raises `ModuleMissing` where a package of the project hides it."""
        if places.is_path(module):
            path = places.locate_file(module, self.roots)
            return None if path is None else _Place(Origin.FILE, module, path)
        found = places.locate_module(module, self.roots)
        if isinstance(found, places.Blocked):
            raise self._submodule_missing(found, module, action)
        if found is not None:
            return _Place(Origin.PROJECT, module, found.path)
        return (
            self._locate_setting(module)
            or self._locate_offer(module)
            or self._locate_installed(module)
            or self._locate_own(module)
        )

    def _locate_setting(self, module: str) -> _Place | None:
        for name in self._modules:
            if module not in (name, _bare(name)):
                continue
            if places.is_path(name):
                path = places.locate_file(name, self.roots)
                if path is not None:
                    return _Place(Origin.SETTING, name, path)
                continue
            found = places.locate_module(name, [*self.roots, *self._path()])
            if isinstance(found, places.Located):
                return _Place(Origin.SETTING, name, found.path)
        return None

    def _locate_offer(self, module: str) -> _Place | None:
        for offer in self._entry_points():
            if offer.name == module:
                place = self._locate_installed(offer.module)
                return _Place(Origin.ENTRY_POINT, offer.module, place.path if place else None, offer.inside)
        return None

    def _locate_installed(self, module: str) -> _Place | None:
        found: places.Located | places.Blocked | None = None
        if self._python_path is None and module in sys.builtin_module_names:
            return _Place(Origin.INSTALLED, module, None)
        found = places.locate_module(module, self._path())
        if found is None and self._python_path is None:
            found = places.locate_loadable(module)
        return _Place(Origin.INSTALLED, module, found.path) if isinstance(found, places.Located) else None

    def _locate_own(self, module: str) -> _Place | None:
        name = f"codomyrmex.{module}"
        home = os.path.dirname(os.path.abspath(sys.modules["codomyrmex"].__path__[0]))
        found = places.locate_module(name, [home])
        return _Place(Origin.CODOMYRMEX, name, found.path) if isinstance(found, places.Located) else None

    def _path(self) -> list[str]:
        return list(sys.path if self._python_path is None else self._python_path)

    def _entry_points(self) -> list[Offer]:
        if self._offers is None:
            self._offers = offers(self._path())
        return self._offers

    def _exact_offer(self, module: str, action: str) -> Pair | None:
        """The entry point that is this one action, where the project has no such module."""
        if places.is_path(module) or places.locate_module(module, self.roots) is not None:
            return None
        for offer in self._entry_points():
            if offer.name == f"{module}.{action}":
                return offer.target(module, action)
        return None

    # --------------------------------------------------------------------------------------- told to users

    def _warn_of_shadowed(self, module: str, origin: Origin, path: str | None) -> None:
        """Says where else a module of this name stands and how that one can be named."""
        if places.is_path(module) or origin in (Origin.INSTALLED, Origin.CODOMYRMEX):
            return
        for other in self._others(module, path):
            chosen = "the built-in one" if origin is Origin.BUILT_IN else path or f"that of {origin.value}"
            text = f"module {module!r} is {chosen}; {other} has the same name and is not used"
            if text not in self.warnings:
                self.warnings.append(text)

    def _others(self, module: str, path: str | None) -> list[str]:
        found: list[str] = []
        for folder in self.roots:
            located = places.locate_module(module, [folder])
            if isinstance(located, places.Located) and located.origin is not None:
                found.append(located.origin)
        setting = self._locate_setting(module)
        if setting is not None:
            found.append(setting.path or setting.target)
        if any(offer.name == module for offer in self._entry_points()):
            found.append(f"the entry point {module!r}")
        if module not in BUILT_IN_MODULES:
            installed = self._locate_installed(module)
            if installed is not None:
                found.append(installed.path or f"the standard module {module!r}")
        real = os.path.realpath(path) if path is not None else None
        return [each for each in dict.fromkeys(found) if os.path.realpath(each) != real]

    def _module_missing(self, module: str, action: str) -> ModuleMissing:
        if places.is_path(module):
            return self._file_missing(module, action)
        head, _, tail = module.rpartition(".")
        names = [*BUILT_IN_MODULES, *places.names_in(self.roots), *map(_bare, self._modules)]
        names += [offer.name for offer in self._entry_points()]
        if head:
            parent = places.locate_module(head, [*self.roots, *self._path()])
            if isinstance(parent, places.Located) and parent.is_package and parent.origin is not None:
                names += [f"{head}.{name}" for name in places.names_in([os.path.dirname(parent.origin)])]
        close = nearest(module, names)
        hint = "a module beside the workflow file is named by its file name without `.py`, or as `./name.py`"
        looked_in = (*self.roots, "the installed packages")
        if close is None and not head and any(os.path.isfile(os.path.join(root, f"{tail}.py")) for root in self.roots):
            close = f"./{tail}.py"  # a file whose name is no identifier
        text = f"there is no module {module!r}"
        return ModuleMissing(module, action, text, looked_in=looked_in, nearest=close, hint=hint)

    def _file_missing(self, module: str, action: str) -> ModuleMissing:
        folder, base = os.path.split(module)
        known = [
            os.path.join(folder, name)
            for root in self.roots
            for name in _python_names(os.path.join(root, folder))
        ]
        close = nearest(module, known)
        if f"{module}.py" in known:
            close = f"{module}.py"
        text = f"there is no file {module!r}"
        looked_in = () if os.path.isabs(module) else self.roots
        return ModuleMissing(module, action, text, looked_in=looked_in, nearest=close)

    def _submodule_missing(self, blocked: places.Blocked, module: str, action: str) -> ModuleMissing:
        names = [f"{blocked.package}.{name}" for name in places.names_in(blocked.folders)]
        text = f"the package {blocked.package!r} has no module {module.removeprefix(blocked.package + '.')!r}"
        if not blocked.folders:
            text = f"{blocked.package!r} is a module, not a package: there is no {module!r}"
        close = nearest(module, names)
        return ModuleMissing(module, action, text, looked_in=blocked.folders, nearest=close)

    def _function_missing(self, outline: Outline, module: str, action: str) -> FunctionMissing:
        known = [*outline.known(), *outline.declared_names()]
        close = nearest(action, known)
        if action in outline.values:
            text = f"{action!r} in {outline.path} is a value, not a function"
        elif "<locals>" in action or "<lambda>" in action:
            text = f"{action!r} is made inside another function and cannot be found again"
        else:
            text = f"the module {module!r} has no function {action!r}; looked in {outline.path}"
        hint = None
        if close is None:
            hint = f"it has {', '.join(known[:10])}" if known else "it has no public functions"
        return FunctionMissing(module, action, text, known=known, nearest=close, hint=hint)

    # ------------------------------------------------------------------------------------------------ list

    def list(self) -> list[ActionDescription]:
        """Every action that there is to choose from, in the order of search, each once.

        Built-ins; functions of the project that `@action` declares; every public function of `[actions] modules`
        and of entry points. Installed modules and plain functions of the project are not listed, but can be found.
        """
        found: dict[Pair, ActionDescription] = {}
        for actions in built_ins().values():
            for described in actions.values():
                found[described.module, described.action] = described
        wanted = [*self._declared_pairs(), *self._setting_pairs(), *self._offer_pairs()]
        warnings = list(self.warnings)
        for pair, answer in self._find_all(pair for pair in wanted if pair not in found).items():
            if isinstance(answer, ActionDescription):
                found[pair] = answer
        self.warnings = warnings  # listing is no use of a name
        order = list(Origin)
        return sorted(found.values(), key=lambda each: order.index(each.origin))

    def _declared_pairs(self) -> Iterable[Pair]:
        seen: set[str] = set()
        for root in self.roots:
            for path in places.python_files(root):
                if path not in seen and _mentions_action(path):
                    seen.add(path)
                    yield from self._pairs_of(places.module_name(path, self.roots), path, only_registered=True)

    def _setting_pairs(self) -> Iterable[Pair]:
        for name in self._modules:
            place = self._locate_setting(name)
            if place is not None and place.path is not None:
                used = _bare(name) if self._locate(_bare(name), "") == place else name
                yield from self._pairs_of(used, place.path, only_registered=False)

    def _offer_pairs(self) -> Iterable[Pair]:
        for offer in self._entry_points():
            place = self._locate_installed(offer.module)
            if place is None or place.path is None or offer.inside:
                module, dot, action = offer.name.rpartition(".")
                if offer.inside and dot:
                    yield module, action
                continue
            yield from self._pairs_of(offer.name, place.path, only_registered=False)

    def _pairs_of(self, module: str, path: str, *, only_registered: bool) -> Iterable[Pair]:
        try:
            outline = self._outline(path)
        except SourceUnreadable:
            return
        declared = {function: name for name, function in outline.declared_names().items()}
        names = outline.registered() if only_registered else list(outline.functions)
        for name in names:
            if only_registered or not name.startswith("_"):
                yield module, declared.get(name, name)

    # ----------------------------------------------------------------------------------------------- check

    def check(self, document: Mapping[str, Any], *, skip: Collection[str] = ()) -> list[Found]:
        """Every fault of the steps' actions and parameters, in the order of the steps, as (path, Fault).

        `document` is canonical (see `workflow_document`). Steps named in `skip` hold their function in memory and
        are not looked up. The Faults have no `path` of their own: the caller knows how places are written.
        """
        steps: Sequence[Mapping[str, Any]] = document["steps"]
        pairs = dict.fromkeys((step["module"], step["action"]) for step in steps if step["name"] not in skip)
        answers = self._find_all(pairs)
        checks = {
            pair: ParameterCheck(answer) if isinstance(answer, ActionDescription) else _fault_of(answer)
            for pair, answer in answers.items()
        }
        found: list[Found] = []
        for number, step in enumerate(steps):
            if skip and step["name"] in skip:
                continue
            check = checks[step["module"], step["action"]]
            if isinstance(check, ParameterCheck):
                faults = check.faults(step, ("steps", number))
                if faults:
                    found += faults
            else:
                key, fault = check
                found.append((("steps", number, key), fault))
        return found


def _fault_of(problem: ActionNotFound) -> tuple[str, Fault]:
    """The key of the step that is wrong, and the fault."""
    is_function = isinstance(problem, FunctionMissing)
    return "action" if is_function else "module", Fault(
        message=getattr(problem, "reason", problem.message),
        code="unknown_action" if is_function else "unknown_module",
        got=problem.name,
        nearest=problem.nearest,
        advice=problem.hint if problem.nearest is None else None,
    )


def _description(
    signature: Signature, module: str, action: str, origin: Origin, target: Pair, path: str
) -> ActionDescription:
    declared = signature.declared
    return ActionDescription(
        module=module,
        action=action,
        origin=origin,
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
    )


def _read(path: str) -> Outline | SourceUnreadable:
    try:
        return read_outline(path)
    except SourceUnreadable as problem:
        return problem


def _bare(name: str) -> str:
    """`tasks` of `mypkg.tasks` and of `./lib/tasks.py`."""
    if places.is_path(name):
        return os.path.basename(name).removesuffix(".py")
    return name.rpartition(".")[2]


def _mentions_action(path: str) -> bool:
    """Whether a file can hold an `@action` of ours at all; most show without being parsed."""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError:
        return False
    return b"codomyrmex" in content and b"action" in content


def _python_names(folder: str) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if name.endswith(".py")]
    except OSError:
        return []
