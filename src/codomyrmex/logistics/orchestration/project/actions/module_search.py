"""Which module a name means: the order of the places, what hides what, and what to say when none has it.

Layer: actions. The order of search is that of `Origin`. Nothing is imported.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from codomyrmex.logistics.orchestration.project.actions import places
from codomyrmex.logistics.orchestration.project.actions.built_in import MODULES as BUILT_IN_MODULES
from codomyrmex.logistics.orchestration.project.actions.description import Origin
from codomyrmex.logistics.orchestration.project.actions.entry_points import Offer, offers
from codomyrmex.logistics.orchestration.project.actions.missing import FunctionMissing, ModuleMissing
from codomyrmex.logistics.orchestration.project.workflow_faults import nearest


@dataclass(frozen=True, slots=True)
class Place:
    """Where a module was found.

    `module` is the name to load it by, `path` its source (None where it has none), `prefix` a class in it
    that stands for the module, `exactly` the one thing in it that the action is.
    """

    origin: Origin
    module: str
    path: str | None
    prefix: str = ""
    exactly: str = ""

    def inside(self, action: str) -> str:
        """The name of the action inside the module."""
        return self.exactly or (f"{self.prefix}.{action}" if self.prefix else action)


class ModuleSearch:
    """The search of one catalogue; entry points are read once, all else is looked at anew each time."""

    def __init__(
        self, roots: Sequence[str], *, modules: Sequence[str], python_path: Sequence[str] | None
    ) -> None:
        self.roots = tuple(roots)
        self.lent = tuple(modules)
        self.is_own_python = python_path is None
        self._python_path = python_path
        self._offers: list[Offer] | None = None

    def locate(self, module: str, action: str = "") -> Place | None:
        """The first place that has a module; raises `ModuleMissing` if a package hides the rest."""
        if places.is_path(module):
            path = places.locate_file(module, self.roots)
            return None if path is None else Place(Origin.FILE, module, path)
        found = places.locate_module(module, self.roots)
        if isinstance(found, places.Blocked):
            raise self._submodule_missing(found, module, action)
        if found is not None:
            return Place(Origin.PROJECT, module, found.path)
        return (
            self.locate_lent(module)
            or self._locate_offer(module, action)
            or self.locate_installed(module)
            or self._locate_own(module)
        )

    def locate_lent(self, module: str) -> Place | None:
        """The module of `[actions] modules` that has this name, or this last part of its name."""
        for name in self.lent:
            if module not in (name, bare_name(name)):
                continue
            if places.is_path(name):
                path = places.locate_file(name, self.roots)
                if path is not None:
                    return Place(Origin.SETTING, name, path)
            else:
                found = places.locate_module(name, [*self.roots, *self._path()])
                if isinstance(found, places.Located):
                    return Place(Origin.SETTING, name, found.path)
        return None

    def locate_installed(self, module: str) -> Place | None:
        """The module as the interpreter would find it without the project."""
        if self.is_own_python and module in sys.builtin_module_names:
            return Place(Origin.INSTALLED, module, None)
        found = places.locate_module(module, self._path())
        if found is None and self.is_own_python:
            found = places.locate_loadable(module)
        return Place(Origin.INSTALLED, module, found.path) if isinstance(found, places.Located) else None

    def offers(self) -> list[Offer]:
        """The entry points of the installed packages."""
        if self._offers is None:
            self._offers = offers(self._path())
        return self._offers

    def shadowed(self, module: str, place: Place) -> list[str]:
        """What else has the name of a module that was found at `place`, and is therefore not used."""
        if place.origin in (Origin.FILE, Origin.INSTALLED, Origin.CODOMYRMEX):
            return []
        real = os.path.realpath(place.path) if place.path is not None else None
        others = dict.fromkeys(self._all_of(module, with_installed=place.origin is not Origin.BUILT_IN))
        return [each for each in others if os.path.realpath(each) != real]

    def missing(self, module: str, action: str) -> ModuleMissing | FunctionMissing:
        """Why `locate` found nothing, with the nearest name that it would have found."""
        if places.is_path(module):
            return self._file_missing(module, action)
        offered = [each.action_of(module) for each in self.offers()]
        known = [name for name in offered if name is not None]
        if known:
            text = f"the entry points of {module!r} have no action {action!r}"
            return FunctionMissing(module, action, text, known=known, nearest=nearest(action, known))
        close = nearest(module, self._names_like(module))
        if any(os.path.isfile(os.path.join(root, f"{module}.py")) for root in self.roots):
            close = f"./{module}.py"  # a file whose name is no identifier
        return ModuleMissing(
            module,
            action,
            f"there is no module {module!r}",
            looked_in=(*self.roots, "the installed packages"),
            nearest=close,
            hint="name a file of the project without its `.py`, or by its path, as `./steps.py`",
        )

    def _names_like(self, module: str) -> list[str]:
        names = [*BUILT_IN_MODULES, *places.names_in(self.roots), *map(bare_name, self.lent)]
        names += [offer.name for offer in self.offers()]
        package = module.rpartition(".")[0]
        parent = places.locate_module(package, [*self.roots, *self._path()]) if package else None
        if isinstance(parent, places.Located) and parent.is_package and parent.origin is not None:
            names += [f"{package}.{name}" for name in places.names_in([os.path.dirname(parent.origin)])]
        return names

    def _locate_offer(self, module: str, action: str) -> Place | None:
        whole = None
        for offer in self.offers():
            if offer.is_action(module, action):
                return Place(
                    Origin.ENTRY_POINT, offer.module, self._source(offer.module), exactly=offer.inside
                )
            if offer.name == module and whole is None:
                source = self._source(offer.module)
                whole = Place(Origin.ENTRY_POINT, offer.module, source, prefix=offer.inside)
        return whole

    def _source(self, module: str) -> str | None:
        place = self.locate_installed(module)
        return None if place is None else place.path

    def _locate_own(self, module: str) -> Place | None:
        home = os.path.dirname(os.path.abspath(sys.modules["codomyrmex"].__path__[0]))
        name = f"codomyrmex.{module}"
        found = places.locate_module(name, [home])
        return Place(Origin.CODOMYRMEX, name, found.path) if isinstance(found, places.Located) else None

    def _path(self) -> list[str]:
        return list(sys.path if self._python_path is None else self._python_path)

    def _all_of(self, module: str, *, with_installed: bool) -> Iterator[str]:
        for root in self.roots:
            located = places.locate_module(module, [root])
            if isinstance(located, places.Located) and located.origin is not None:
                yield located.origin
        lent = self.locate_lent(module)
        if lent is not None:
            yield lent.path or lent.module
        if any(offer.name == module for offer in self.offers()):
            yield f"the entry point {module!r}"
        installed = self.locate_installed(module) if with_installed else None
        if installed is not None:
            yield installed.path or f"the standard module {module!r}"

    def _file_missing(self, module: str, action: str) -> ModuleMissing:
        folder = os.path.dirname(module)
        known = []
        for root in self.roots:
            known += [os.path.join(folder, name) for name in places.file_names(os.path.join(root, folder))]
        close = f"{module}.py" if f"{module}.py" in known else nearest(module, known)
        looked_in = () if os.path.isabs(module) else self.roots
        text = f"there is no file {module!r}"
        return ModuleMissing(module, action, text, looked_in=looked_in, nearest=close)

    def _submodule_missing(self, blocked: places.Blocked, module: str, action: str) -> ModuleMissing:
        names = [f"{blocked.package}.{name}" for name in places.names_in(blocked.folders)]
        text = f"the package {blocked.package!r} has no module {module.removeprefix(blocked.package + '.')!r}"
        if not blocked.folders:
            text = f"{blocked.package!r} is a module, not a package, so there is no {module!r}"
        return ModuleMissing(module, action, text, looked_in=blocked.folders, nearest=nearest(module, names))


def bare_name(name: str) -> str:
    """`tasks` of `mypkg.tasks` and of `./lib/tasks.py`."""
    if places.is_path(name):
        return os.path.basename(name).removesuffix(".py")
    return name.rpartition(".")[2]
